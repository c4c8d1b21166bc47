"""LangChain's ChatOpenAI: streamed, with a tool whose result goes back; prints JSON.

RESPONSES=1: on Responses, thinking.
"""

import json
import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

OPTIONS = {"stream_usage": True}
if os.environ.get("RESPONSES"):
    OPTIONS = {"use_responses_api": True, "reasoning": {"effort": "high"}}


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def folded(stream):
    """The chunks added up, as LangChain's agents do."""
    whole = None
    for chunk in stream:
        whole = chunk if whole is None else whole + chunk
    return whole


def chat(model):
    return ChatOpenAI(
        model=model,
        base_url=os.environ["BASE_URL"],
        api_key="pool",
        max_retries=0,
        timeout=20,
        **OPTIONS,
    )


model = chat(os.environ["MODEL"]).bind_tools([get_weather])
history = [HumanMessage('call get_weather with {"city": "Paris"}')]
first = folded(model.stream(history))
history.append(first)
for call in first.tool_calls:
    history.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
last = folded(model.stream(history))
whole = chat(os.environ["MODEL"]).invoke("hi")
try:
    refused = chat(os.environ["WRONG"]).invoke("hi").text
except Exception as error:  # whatever class it is: its words are looked at
    refused = f"{getattr(error, 'status_code', 0)} {error}"
print(
    json.dumps(
        {
            "asked": [call["args"]["city"] for call in first.tool_calls],
            "text": str(last.text),
            "tokens": (last.usage_metadata or {}).get("total_tokens", 0),
            "whole": str(whole.text),
            "refused": refused,
        }
    )
)
