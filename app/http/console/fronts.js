// The four API formats of the gateway, as the playground speaks them: what a request looks like, what
// an event of the stream says, and how the same request is made by curl, Python and JavaScript.

const TOKEN = "ANY_PROXY_TOKEN"; // the variable that stands for the caller's access token
const MAX_TOKENS = 4096; // Messages must name a limit

// A turn: {role: "user" or "assistant", text, picture (a data: URL)}. A tool: {name, description,
// parameters (JSON Schema)}.
const pictureOf = turn => /^data:([^;]+);base64,(.*)$/s.exec(turn.picture ?? "");

export const FRONTS = {
  "openai-chat": {
    title: "OpenAI Chat Completions",
    headers: token => ({ authorization: `Bearer ${token}` }),
    path: () => "/c/v1/chat/completions",
    body: ({ model, system, turns, tools }) => ({
      model,
      messages: [
        ...(system ? [{ role: "system", content: system }] : []),
        ...turns.map(turn => ({
          role: turn.role,
          content: turn.picture ? [{ type: "text", text: turn.text }, { type: "image_url", image_url: { url: turn.picture } }] : turn.text,
        })),
      ],
      ...(tools.length ? { tools: tools.map(tool => ({ type: "function", function: tool })) } : {}),
      stream: true,
      stream_options: { include_usage: true },
    }),
    read(event) {
      if (event.error) return [{ error: event.error.message }];
      const delta = event.choices?.[0]?.delta ?? {};
      return [
        delta.reasoning_content && { thinking: delta.reasoning_content },
        delta.content && { text: delta.content },
        ...(delta.tool_calls ?? []).map(call => ({ tool: { id: call.index, name: call.function?.name, more: call.function?.arguments } })),
        event.choices?.[0]?.finish_reason && { finish: event.choices[0].finish_reason },
        event.usage && { usage: [event.usage.prompt_tokens, event.usage.completion_tokens] },
      ];
    },
  },
  anthropic: {
    title: "Anthropic Messages",
    headers: token => ({ "x-api-key": token, "anthropic-version": "2023-06-01" }),
    path: () => "/c/v1/messages",
    body: ({ model, system, turns, tools }) => ({
      model,
      max_tokens: MAX_TOKENS,
      ...(system ? { system } : {}),
      messages: turns.map(turn => {
        const found = pictureOf(turn);
        const picture = found && { type: "image", source: { type: "base64", media_type: found[1], data: found[2] } };
        return { role: turn.role, content: picture ? [picture, { type: "text", text: turn.text }] : turn.text };
      }),
      ...(tools.length ? { tools: tools.map(({ parameters, ...tool }) => ({ ...tool, input_schema: parameters })) } : {}),
      stream: true,
    }),
    read(event) {
      switch (event.type) {
        case "error": return [{ error: event.error.message }];
        case "message_start": return [{ usage: [event.message.usage.input_tokens, null] }];
        case "content_block_start":
          return event.content_block.type === "tool_use" ? [{ tool: { id: event.index, name: event.content_block.name } }] : [];
        case "content_block_delta": return [
          event.delta.text && { text: event.delta.text },
          event.delta.thinking && { thinking: event.delta.thinking },
          event.delta.partial_json && { tool: { id: event.index, more: event.delta.partial_json } },
        ];
        case "message_delta": return [
          { finish: event.delta.stop_reason },
          { usage: [event.usage?.input_tokens ?? null, event.usage?.output_tokens ?? null] },
        ];
        default: return [];
      }
    },
  },
  "openai-responses": {
    title: "OpenAI Responses",
    headers: token => ({ authorization: `Bearer ${token}` }),
    path: () => "/c/v1/responses",
    body: ({ model, system, turns, tools }) => ({
      model,
      ...(system ? { instructions: system } : {}),
      input: turns.map(turn => ({
        role: turn.role,
        content: [
          { type: turn.role === "user" ? "input_text" : "output_text", text: turn.text },
          ...(turn.picture ? [{ type: "input_image", image_url: turn.picture }] : []),
        ],
      })),
      ...(tools.length ? { tools: tools.map(tool => ({ type: "function", ...tool })) } : {}),
      store: false,
      stream: true,
    }),
    read(event) {
      const { response } = event;
      switch (event.type) {
        case "error": return [{ error: event.message ?? event.error?.message }];
        case "response.failed": return [{ error: response.error?.message ?? "failed" }];
        case "response.output_text.delta": return [{ text: event.delta }];
        case "response.reasoning_summary_text.delta": return [{ thinking: event.delta }];
        case "response.output_item.added": return event.item.type === "function_call" ? [{ tool: { id: event.output_index, name: event.item.name } }] : [];
        case "response.function_call_arguments.delta": return [{ tool: { id: event.output_index, more: event.delta } }];
        case "response.completed":
        case "response.incomplete":
          return [{ finish: response.status }, response.usage && { usage: [response.usage.input_tokens, response.usage.output_tokens] }];
        default: return event.error ? [{ error: event.error.message }] : [];
      }
    },
  },
  gemini: {
    title: "Gemini generateContent",
    headers: token => ({ "x-goog-api-key": token }),
    path: model => `/c/v1beta/models/${model.split("/").map(encodeURIComponent).join("/")}:streamGenerateContent?alt=sse`,
    body: ({ system, turns, tools }) => ({
      ...(system ? { systemInstruction: { parts: [{ text: system }] } } : {}),
      contents: turns.map(turn => {
        const found = pictureOf(turn);
        const picture = found && { inlineData: { mimeType: found[1], data: found[2] } };
        return { role: turn.role === "user" ? "user" : "model", parts: [...(picture ? [picture] : []), { text: turn.text }] };
      }),
      ...(tools.length ? { tools: [{ functionDeclarations: tools }] } : {}),
    }),
    read(event) {
      if (event.error) return [{ error: event.error.message }];
      const candidate = event.candidates?.[0];
      return [
        ...(candidate?.content?.parts ?? []).map((part, n) => {
          if (part.functionCall) return { tool: { id: `${part.functionCall.id ?? n}`, name: part.functionCall.name, more: JSON.stringify(part.functionCall.args ?? {}) } };
          return part.text && (part.thought ? { thinking: part.text } : { text: part.text });
        }),
        candidate?.finishReason && { finish: candidate.finishReason },
        event.usageMetadata && { usage: [event.usageMetadata.promptTokenCount, event.usageMetadata.candidatesTokenCount] },
      ];
    },
  },
};

// What an event of the stream says: text, thinking, tool, usage, finish and error, in their order.
export function read(front, data) {
  if (data === "[DONE]") return [];
  try {
    return FRONTS[front].read(JSON.parse(data)).filter(Boolean);
  } catch {
    return [];
  }
}

// Splits a stream of server-sent events into the data of each, across any pieces of it.
export function eventSplitter() {
  let held = "";
  return piece => {
    const blocks = (held + piece).split(/\r?\n\r?\n/);
    held = blocks.pop();
    return blocks.map(block => block.split(/\r?\n/).filter(line => line.startsWith("data:")).map(line => line.slice(5).trimStart()).join("\n")).filter(Boolean);
  };
}

// --- copy as ----------------------------------------------------------------------------------
// None of these holds a secret: the access token is a variable that its owner sets.

const address = path => new URL(path, location.origin).href;
const shell = text => `'${text.replaceAll("'", `'\\''`)}'`;
const entries = (front, token) => Object.entries({ ...FRONTS[front].headers(token), "content-type": "application/json" });

function python(value, indent = "") {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = indent + "    ";
  const lines = Array.isArray(value)
    ? value.map(each => `${inner}${python(each, inner)},\n`)
    : Object.entries(value).map(([name, each]) => `${inner}${JSON.stringify(name)}: ${python(each, inner)},\n`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return lines.length ? `${open}\n${lines.join("")}${indent}${close}` : open + close;
}

export const SNIPPETS = {
  curl: (front, path, body) => [
    `curl -N ${shell(address(path))}`,
    ...entries(front, `$${TOKEN}`).map(([name, value]) => `-H "${name}: ${value}"`),
    `-d ${shell(JSON.stringify(body))}`,
  ].join(" \\\n  "),
  Python: (front, path, body) => `import os

import httpx

token = os.environ["${TOKEN}"]
headers = {${entries(front, "\0").map(([name, value]) => `"${name}": ${value.includes("\0") ? (value === "\0" ? "token" : `f"${value.replace("\0", "{token}")}"`) : JSON.stringify(value)}`).join(", ")}}
body = ${python(body)}
with httpx.stream("POST", ${JSON.stringify(address(path))}, headers=headers, json=body, timeout=600) as answer:
    for line in answer.iter_lines():
        print(line)
`,
  JavaScript: (front, path, body) => `const token = process.env.${TOKEN};
const answer = await fetch(${JSON.stringify(address(path))}, {
  method: "POST",
  headers: {${entries(front, "${token}").map(([name, value]) => `"${name}": ${value.includes("${") ? `\`${value}\`` : JSON.stringify(value)}`).join(", ")}},
  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),
});
const text = new TextDecoder();
for await (const piece of answer.body) process.stdout.write(text.decode(piece, { stream: true }));
`,
};

// A call of the log as curl. The log has no prompt: "..." stands for it.
export function asCurl(call) {
  const front = FRONTS[call.front] ? call.front : "openai-chat";
  const model = call.model_asked || call.model;
  const turns = [{ role: "user", text: "..." }];
  const body = FRONTS[front].body({ model, system: "", turns, tools: [] });
  if (!call.stream && "stream" in body) {
    delete body.stream;
    delete body.stream_options;
  }
  const path = FRONTS[call.front] ? FRONTS[front].path(model) : call.route;
  return SNIPPETS.curl(front, call.stream ? path : path.replace(":streamGenerateContent?alt=sse", ":generateContent"), body);
}
