"""LangChain's ChatGoogleGenerativeAI on /c: text, a stream, two tools whose results go back, JSON
of a given shape, a picture, an error; prints JSON."""

import json
import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI

BOTH = 'call get_weather with {"city": "Paris"} and get_news with {"city": "Oslo"}'
CITY = {
    "title": "City",
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@tool
def get_news(city: str) -> str:
    """The news of a city."""
    return f"quiet in {city}"


def chat(model):
    return ChatGoogleGenerativeAI(
        model=model, base_url=os.environ["BASE_URL"], google_api_key="pool", max_retries=1
    )


def folded(stream):
    """The chunks added up, as LangChain's agents do."""
    whole = None
    for chunk in stream:
        whole = chunk if whole is None else whole + chunk
    return whole


plain = chat(os.environ["MODEL"])
tools = {each.name: each for each in (get_weather, get_news)}
model = plain.bind_tools(list(tools.values()))
history = [HumanMessage(BOTH)]
first = folded(model.stream(history))
history.append(first)
for call in first.tool_calls:
    said = tools[call["name"]].invoke(call["args"])
    history.append(ToolMessage(said, tool_call_id=call["id"], name=call["name"]))
last = model.invoke(history)
picture = {"type": "image_url", "image_url": {"url": os.environ["PICTURE"]}}
shown = plain.invoke([HumanMessage([{"type": "text", "text": "what is it?"}, picture])])
try:
    refused = str(chat(os.environ["WRONG"]).invoke("hi").content)
except Exception as error:  # whatever class it is: its words are looked at
    refused = str(error)
print(
    json.dumps(
        {
            "text": plain.invoke("blue moon").text,
            "stream": folded(plain.stream("blue moon")).text,
            "calls": [[call["name"], call["args"]] for call in first.tool_calls],
            "after": last.text,
            "tokens": (last.usage_metadata or {}).get("input_tokens", 0),
            "json": plain.with_structured_output(CITY, method="json_schema").invoke("a city"),
            "picture": shown.text,
            "error": refused,
        }
    )
)
