// One round with each JavaScript client of the Gemini API: text, a stream, two tools, JSON, a picture, an
// error. Environment: CLIENT (genai, vercel, langchain), URL (of /c), MODEL, FAILING (a model that is
// refused), PNG (base64).
const { CLIENT, URL: base, MODEL, FAILING, PNG } = process.env;
const WHAT = "what is it?";
const BOTH = 'call get_weather with {"city": "Paris"} and get_news with {"city": "Oslo"}';
const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const said = {};

if (CLIENT === "genai") {
  const { GoogleGenAI } = await import("@google/genai");
  const ai = new GoogleGenAI({ apiKey: "pool", httpOptions: { baseUrl: base, apiVersion: "v1beta" } });
  const ask = (contents, config = {}, model = MODEL) =>
    ai.models.generateContent({ model, contents, config });
  said.text = (await ask("blue moon")).text;
  said.stream = "";
  for await (const chunk of await ai.models.generateContentStream({ model: MODEL, contents: "blue moon" }))
    said.stream += chunk.text ?? "";
  const tools = [{
    functionDeclarations: ["get_weather", "get_news"].map((name) => ({ name, parametersJsonSchema: CITY })),
  }];
  const first = await ask(BOTH, { tools });
  said.calls = first.functionCalls.map((call) => [call.name, call.args]);
  const parts = first.functionCalls.map((call) => ({
    functionResponse: { id: call.id, name: call.name, response: { output: "22 degrees" } },
  }));
  const talk = [
    { role: "user", parts: [{ text: BOTH }] }, first.candidates[0].content, { role: "user", parts },
  ];
  said.after = (await ask(talk, { tools })).text;
  const format = { responseMimeType: "application/json", responseJsonSchema: CITY };
  said.json = JSON.parse((await ask("a city", format)).text);
  const inlineData = { mimeType: "image/png", data: PNG };
  said.picture = (await ask([{ role: "user", parts: [{ text: WHAT }, { inlineData }] }])).text;
  said.error = await ask("blue moon", {}, FAILING).catch((error) => error.status);
} else if (CLIENT === "vercel") {
  const { createGoogleGenerativeAI } = await import("@ai-sdk/google");
  const { generateText, streamText, tool, jsonSchema, Output } = await import("ai");
  const google = createGoogleGenerativeAI({ apiKey: "pool", baseURL: `${base}/v1beta` });
  const options = { model: google(MODEL), maxRetries: 0 };
  said.text = (await generateText({ ...options, prompt: "blue moon" })).text;
  said.stream = "";
  for await (const piece of streamText({ ...options, prompt: "blue moon" }).textStream)
    said.stream += piece;
  const inputSchema = jsonSchema(CITY);
  const tools = { get_weather: tool({ inputSchema }), get_news: tool({ inputSchema }) };
  const first = await generateText({ ...options, prompt: BOTH, tools });
  said.calls = first.toolCalls.map((call) => [call.toolName, call.input]);
  const results = first.toolCalls.map((call) => ({
    type: "tool-result", toolCallId: call.toolCallId, toolName: call.toolName,
    output: { type: "text", value: "22 degrees" },
  }));
  const messages = [
    { role: "user", content: BOTH }, ...first.response.messages, { role: "tool", content: results },
  ];
  said.after = (await generateText({ ...options, messages, tools })).text;
  const output = Output.object({ schema: jsonSchema(CITY) });
  said.json = (await generateText({ ...options, prompt: "a city", output })).output;
  const content = [
    { type: "text", text: WHAT }, { type: "file", data: PNG, mediaType: "image/png" },
  ];
  said.picture = (await generateText({ ...options, messages: [{ role: "user", content }] })).text;
  said.error = await generateText({ ...options, model: google(FAILING), prompt: "x" })
    .catch((error) => error.statusCode);
} else {
  const { ChatGoogleGenerativeAI } = await import("@langchain/google-genai");
  const made = (model) =>
    new ChatGoogleGenerativeAI({ model, apiKey: "pool", baseUrl: base, maxRetries: 0 });
  const chat = made(MODEL);
  said.text = (await chat.invoke("blue moon")).content;
  said.stream = "";
  for await (const chunk of await chat.stream("blue moon")) said.stream += chunk.content;
  const tools = ["get_weather", "get_news"].map((name) => ({
    type: "function", function: { name, description: "Tells.", parameters: CITY },
  }));
  const bound = chat.bindTools(tools);
  said.calls = (await bound.invoke(BOTH)).tool_calls.map((call) => [call.name, call.args]);
  // It sends each result as a turn of its own, which Gemini itself refuses.
  const prompt = MODEL.startsWith("gemini") ? 'call get_weather with {"city": "Paris"}' : BOTH;
  const first = await bound.invoke(prompt);
  const { HumanMessage, ToolMessage } = await import("@langchain/core/messages");
  const results = first.tool_calls.map((call) => new ToolMessage({
    content: "22 degrees", tool_call_id: call.id ?? call.name, name: call.name,
  }));
  said.after = (await bound.invoke([new HumanMessage(prompt), first, ...results])).content;
  const shaped = chat.withStructuredOutput({ title: "City", ...CITY }, { method: "jsonSchema" });
  said.json = await shaped.invoke("a city");
  const content = [
    { type: "text", text: WHAT },
    { type: "image_url", image_url: `data:image/png;base64,${PNG}` },
  ];
  // It sends pictures to the models alone that it knows by name.
  said.picture = !MODEL.startsWith("gemini") || (await chat.invoke([new HumanMessage({ content })])).content;
  said.error = await made(FAILING).invoke("x").then(() => 0, (error) => error.status ?? 1);
}
console.log(JSON.stringify(said));
