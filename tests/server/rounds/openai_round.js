// What a user of the npm package does in a day, told as one JSON object: see openai_round.py.

const OpenAI = require("openai");
const { APIError } = OpenAI;

const { BASE, KEY, MODEL, PROVIDER } = process.env;
const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk" +
  "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const CITY = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const TOOLS = ["get_weather", "get_news"].map((name) => ({
  type: "function",
  function: { name, parameters: CITY },
}));
const CALL_BOTH = 'call get_weather with {"city": "Paris"} and get_news with {"city": "Oslo"}';
const FORM = { type: "json_schema", json_schema: { name: "place", strict: true, schema: CITY } };
const FAULTS = ["sim-400", "sim-401", "sim-403", "missing-model", "sim-429-after-7", "sim-500"];

const client = new OpenAI({ baseURL: `${BASE}/c/v1`, apiKey: "pool", maxRetries: 0 });
const own = new OpenAI({ baseURL: `${BASE}/c/v1`, apiKey: KEY, maxRetries: 0 });
const raw = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: "pool", maxRetries: 0 });
const more = PROVIDER ? { provider: PROVIDER } : {};
const ask = (content) => [{ role: "user", content }];
const create = (messages, asked) =>
  client.chat.completions.create({ model: MODEL, messages, ...more, ...asked });
const text = async (messages, asked) =>
  (await create(messages, asked)).choices[0].message.content;
const faulty = (name) => MODEL.slice(0, MODEL.lastIndexOf("/") + 1) + name;

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

async function whole() {
  const { choices, usage } = await create(ask("blue moon"));
  return {
    text: choices[0].message.content,
    role: choices[0].message.role,
    end: choices[0].finish_reason,
    counts:
      usage.prompt_tokens > 0 &&
      usage.completion_tokens > 0 &&
      usage.total_tokens === usage.prompt_tokens + usage.completion_tokens,
  };
}

async function streamed() {
  const plain = await all(create(ask("blue moon"), { stream: true }));
  const options = { stream: true, stream_options: { include_usage: true } };
  const last = (await all(create(ask("blue moon"), options))).at(-1);
  const { usage } = await create(ask("blue moon"));
  const told = plain.filter((chunk) => chunk.choices.length).map((chunk) => chunk.choices[0]);
  return {
    text: told.map((choice) => choice.delta.content ?? "").join(""),
    role: told[0].delta.role,
    pieces: told.length > 3,
    ends: told.map((choice) => choice.finish_reason).filter(Boolean),
    one_id: new Set(plain.map((chunk) => chunk.id)).size === 1,
    usage_unasked: plain.some((chunk) => chunk.usage),
    usage_last: last.choices.length === 0 && last.usage.total_tokens === usage.total_tokens,
  };
}

async function tools(streams, choice, results) {
  const messages = ask(CALL_BOTH);
  const asked = { tools: TOOLS, tool_choice: choice };
  const calls = [];
  let end = null;
  if (streams) {
    for (const chunk of await all(create(messages, { ...asked, stream: true }))) {
      for (const piece of chunk.choices[0].delta.tool_calls ?? []) {
        if (piece.index === calls.length)
          calls.push({ id: piece.id, name: piece.function.name, said: "" });
        calls[piece.index].said += piece.function.arguments ?? "";
      }
      end = chunk.choices[0].finish_reason ?? end;
    }
  } else {
    const answer = (await create(messages, asked)).choices[0];
    end = answer.finish_reason;
    for (const { id, function: called } of answer.message.tool_calls)
      calls.push({ id, name: called.name, said: called.arguments });
  }
  const said = {
    names: calls.map((call) => call.name),
    arguments: calls.map((call) => JSON.parse(call.said)),
    ids: new Set(calls.map((call) => call.id)).size === calls.length,
    end,
  };
  if (results) {
    const tool_calls = calls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: call.said },
    }));
    messages.push({ role: "assistant", content: null, tool_calls });
    for (const call of calls)
      messages.push({ role: "tool", tool_call_id: call.id, content: `it is ${call.name}` });
    const used = await text(messages, { tools: TOOLS });
    said.used = [used.includes("it is get_weather"), used.includes("it is get_news")];
  }
  return said;
}

async function headers() {
  const { data, response } = await client.chat.completions
    .create({ model: MODEL, messages: ask("a"), ...more }, { headers: { "x-request-id": "mine-7" } })
    .withResponse();
  return {
    key: response.headers.get("x-auth-id"),
    request: response.headers.get("x-request-id"),
    text: data.choices[0].message.content,
  };
}

async function error(name, asked) {
  const model = faulty(name);
  try {
    await own.chat.completions.create({ model, messages: ask("a"), ...more, ...asked });
  } catch (caught) {
    return [caught.constructor.name, caught.status, caught.headers.get("retry-after")];
  }
  return ["no error"];
}

async function errors(asked) {
  const found = {};
  for (const name of FAULTS) found[name] = await error(name, asked);
  return found;
}

async function broken() {
  const model = faulty("sim-cut-after-5");
  let seen = 0;
  try {
    const stream = await own.chat.completions.create({
      model,
      messages: ask("a b c d e f"),
      stream: true,
      ...more,
    });
    for await (const _ of stream) seen += 1;
  } catch (caught) {
    return caught instanceof APIError ? [seen > 0, caught.code] : [String(caught)];
  }
  return ["no error"];
}

async function models() {
  const listed = (await client.models.list()).data;
  const name = listed.find((model) => model.provider === "claude").id;
  return [
    [...new Set(listed.map((model) => model.provider))].sort(),
    (await client.models.retrieve(name)).id === name,
    (await client.models.retrieve(`claude/${name}`)).id === name,
  ];
}

async function beside() {
  const content = Buffer.alloc(256 * 400, Buffer.from([...Array(256).keys()]));
  const file = await OpenAI.toFile(content, "data.bin");
  const made = await raw.files.create({ file, purpose: "user_data" });
  const back = Buffer.from(await (await raw.files.content(made.id)).arrayBuffer());
  const embedded = await raw.embeddings.create({ model: "text-embedding-3-small", input: "x" });
  return [
    embedded.data.length,
    (await raw.models.retrieve("gpt-4o")).id,
    made.bytes,
    back.equals(content),
    (await raw.files.delete(made.id)).deleted,
  ];
}

(async () => {
  const image = [
    { type: "text", text: "blue moon" },
    { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } },
  ];
  const system = [
    { role: "system", content: "brief" },
    { role: "developer", content: "and" },
  ];
  const turns = [...ask("red fox"), { role: "assistant", content: "You said: red fox" }];
  console.log(
    JSON.stringify({
      version: require("openai/version").VERSION,
      whole: await whole(),
      streamed: await streamed(),
      system: await text([...system, ...ask("blue moon")]),
      turns: await text([...turns, ...ask("blue moon")]),
      image: await text([{ role: "user", content: image }]),
      tools: await tools(false, "auto", true),
      streamed_tools: await tools(true, "auto", true),
      one_tool: await tools(false, { type: "function", function: { name: "get_news" } }, false),
      schema: JSON.parse(await text(ask("Paris"), { response_format: FORM })),
      headers: await headers(),
      errors: await errors({}),
      streamed_errors: await errors({ stream: true }),
      broken: await broken(),
      models: await models(),
      beside: await beside(),
    }),
  );
})();
