// Anthropic's own client for JavaScript on /c: streamed, a tool whose result goes back, errors.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.env.BASE_URL, apiKey: "pool", maxRetries: 0 });
const model = process.env.MODEL;
const tools = [
  {
    name: "get_weather",
    description: "The weather of a city",
    input_schema: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
  },
];
const messages = [{ role: "user", content: 'call get_weather with {"city": "Paris"}' }];
const first = await client.messages.stream({ model, max_tokens: 500, messages, tools }).finalMessage();
const calls = first.content.filter((block) => block.type === "tool_use");
messages.push({ role: "assistant", content: first.content });
messages.push({
  role: "user",
  content: calls.map((call) => ({
    type: "tool_result",
    tool_use_id: call.id,
    content: `sunny in ${call.input.city}`,
  })),
});
const last = await client.messages.stream({ model, max_tokens: 500, messages, tools }).finalText();
const whole = await client.messages.create({
  model,
  max_tokens: 100,
  messages: [{ role: "user", content: "hi" }],
});
const counted = await client.messages.countTokens({ model, messages });
let refused = "";
try {
  const hi = [{ role: "user", content: "hi" }];
  await client.messages.create({ model: process.env.WRONG, max_tokens: 9, messages: hi });
} catch (error) {
  refused = `${error.constructor.name} ${error.status} ${error.error.error.type}`;
}
let broken = "";
try {
  await client.messages
    .stream({ model: process.env.CUT, max_tokens: 100, messages: [{ role: "user", content: "hi" }] })
    .finalMessage();
} catch (error) {
  broken = String(error.message);
}
console.log(
  JSON.stringify({
    asked: calls.map((call) => call.input.city),
    end: first.stop_reason,
    text: last,
    whole: whole.content.map((block) => block.text).join(""),
    tokens: whole.usage.input_tokens,
    counted: counted.input_tokens,
    refused,
    broken,
  }),
);
