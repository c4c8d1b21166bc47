// Vercel's AI SDK with its package for Anthropic, on /c/v1. Prints what was seen, as JSON.
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, isStepCount, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const provider = createAnthropic({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: "pool" });
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
  maxOutputTokens: 500,
  prompt: 'call get_weather with {"city": "Paris"}',
  tools: { get_weather: weather },
  stopWhen: (isStepCount ?? stepCountIs)(3),
  maxRetries: 0,
});
const kinds = new Set();
for await (const part of streamed.fullStream ?? streamed.stream) {
  kinds.add(part.type);
  if (part.type === "error") throw part.error;
}
const whole = await generateText({
  model: provider(process.env.MODEL),
  maxOutputTokens: 100,
  prompt: "hi",
  maxRetries: 0,
});
let refused = "";
try {
  const wrong = provider(process.env.WRONG);
  await generateText({ model: wrong, maxOutputTokens: 9, prompt: "hi", maxRetries: 0 });
} catch (error) {
  refused = `${error.statusCode} ${error.message}`;
}
const usage = await (streamed.totalUsage ?? streamed.usage);
console.log(
  JSON.stringify({
    asked,
    text: await streamed.text,
    kinds: [...kinds],
    tokens: usage.inputTokens,
    whole: whole.text,
    refused,
  }),
);
