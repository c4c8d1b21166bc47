// The npm package's Responses: whole, streamed with its accumulator, parsed, and a round of tools.
const OpenAI = require("openai").default;

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "pool", maxRetries: 0 });
const model = process.env.MODEL;
const tools = [
  {
    type: "function",
    name: "get_weather",
    description: "The weather of a city",
    strict: false,
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];

async function finalOf(params) {
  const stream = client.responses.stream(params);
  const kinds = [];
  let deltas = "";
  for await (const event of stream) {
    kinds.push(event.type);
    if (event.type === "response.output_text.delta") deltas += event.delta;
  }
  return { kinds, deltas, answer: await stream.finalResponse() };
}

(async () => {
  const whole = await client.responses.create({ model, input: "hi", store: false });
  const question = { role: "user", content: 'call get_weather with {"city": "Paris"}' };
  const options = { model, tools, reasoning: { effort: "high" }, store: false };
  const first = await finalOf({ ...options, input: [question] });
  const calls = first.answer.output.filter((item) => item.type === "function_call");
  const results = calls.map((call) => ({
    type: "function_call_output",
    call_id: call.call_id,
    output: `sunny in ${JSON.parse(call.arguments).city}`,
  }));
  const last = await finalOf({ ...options, input: [question, ...first.answer.output, ...results] });
  const parsed = await client.responses.parse({
    model,
    input: "Ada, 36",
    text: {
      format: {
        type: "json_schema",
        name: "person",
        strict: true,
        schema: {
          type: "object",
          properties: { name: { type: "string" } },
          required: ["name"],
          additionalProperties: false,
        },
      },
    },
  });
  let refused = "";
  try {
    await client.responses.create({ model: process.env.WRONG, input: "hi" });
  } catch (error) {
    refused = `${error.status} ${error.message}`;
  }
  console.log(
    JSON.stringify({
      whole: whole.output_text,
      asked: calls.map((call) => JSON.parse(call.arguments).city),
      text: last.answer.output_text,
      deltas: last.deltas,
      ends: [first.kinds.at(-1), last.kinds.at(-1)],
      tokens: last.answer.usage.total_tokens,
      parsed: typeof JSON.parse(parsed.output_text).name,
      refused,
    }),
  );
})();
