// Vercel's AI SDK on OpenAI's Responses: a loop of tools, as it stores by default and not.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAI({ baseURL: process.env.BASE_URL, apiKey: "pool" });
const stop = (isStepCount ?? stepCountIs)(4);
const rounds = {};
for (const store of [undefined, false]) {
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
    model: provider.responses(process.env.MODEL),
    prompt: 'call get_weather with {"city": "Paris"} and get_weather with {"city": "Rome"}',
    tools: { get_weather: weather },
    stopWhen: stop,
    maxRetries: 0,
    providerOptions: {
      openai: {
        ...(store === undefined ? {} : { store }),
        reasoningEffort: "high",
        forceReasoning: true,
        include: ["reasoning.encrypted_content"],
      },
    },
  });
  let text = "";
  let reasoning = "";
  for await (const part of streamed.fullStream ?? streamed.stream) {
    if (part.type === "text-delta") text += part.text;
    if (part.type === "reasoning-delta") reasoning += part.text;
    if (part.type === "error") throw part.error;
  }
  const usage = await (streamed.totalUsage ?? streamed.usage);
  rounds[store === undefined ? "default" : "off"] = {
    asked,
    text,
    reasoning,
    tokens: usage?.totalTokens ?? 0,
    finish: await streamed.finishReason,
  };
}
const whole = await generateText({
  model: provider.responses(process.env.MODEL),
  prompt: "hi",
  maxRetries: 0,
});
let refused = "";
try {
  await generateText({
    model: provider.responses(process.env.WRONG),
    prompt: "hi",
    maxRetries: 0,
  });
} catch (error) {
  refused = `${error.statusCode} ${error.message}`;
}
console.log(JSON.stringify({ rounds, whole: whole.text, refused }));
