// Vercel's AI SDK: streamed, with a tool whose result goes back. Prints what was seen, as JSON.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({
  name: "gateway",
  baseURL: process.env.BASE_URL,
  apiKey: "pool",
  includeUsage: true,
});
const stop = (isStepCount ?? stepCountIs)(3);
const asked = [];
const weather = tool({
  description: "The weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    asked.push(city);
    return `sunny in ${city}`;
  },
});
const streamed = streamText({
  model: provider(process.env.MODEL),
  prompt: 'call get_weather with {"city": "Paris"}',
  tools: { get_weather: weather },
  stopWhen: stop,
  maxRetries: 0,
});
let text = "";
let reasoning = "";
const kinds = new Set();
for await (const part of streamed.fullStream ?? streamed.stream) {
  kinds.add(part.type);
  if (part.type === "text-delta") text += part.text;
  if (part.type === "reasoning-delta") reasoning += part.text;
  if (part.type === "error") throw part.error;
}
const usage = await (streamed.totalUsage ?? streamed.usage);
const whole = await generateText({
  model: provider(process.env.MODEL),
  prompt: "hi",
  maxRetries: 0,
});
let refused = "";
try {
  await generateText({ model: provider(process.env.WRONG), prompt: "hi", maxRetries: 0 });
} catch (error) {
  refused = `${error.statusCode} ${error.message}`;
}
console.log(
  JSON.stringify({
    asked,
    text,
    reasoning,
    kinds: [...kinds],
    tokens: usage?.totalTokens ?? 0,
    whole: whole.text,
    refused,
  }),
);
