"""Anthropic's client for Python on /c: streamed, a tool whose result goes back; prints JSON."""

import json
import os

import anthropic

client = anthropic.Anthropic(base_url=os.environ["BASE_URL"], api_key="pool", max_retries=0)
model = os.environ["MODEL"]
city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"name": "get_weather", "description": "The weather", "input_schema": city}]
messages = [{"role": "user", "content": 'call get_weather with {"city": "Paris"}'}]
with client.messages.stream(model=model, max_tokens=500, messages=messages, tools=tools) as stream:
    first = stream.get_final_message()
calls = [block for block in first.content if block.type == "tool_use"]
messages += [
    {"role": "assistant", "content": [block.model_dump() for block in first.content]},
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": call.id,
                "content": f"sunny in {call.input['city']}",
            }
            for call in calls
        ],
    },
]
with client.messages.stream(model=model, max_tokens=500, messages=messages, tools=tools) as stream:
    last = stream.get_final_text()
hi = [{"role": "user", "content": "hi"}]
whole = client.messages.create(model=model, max_tokens=100, messages=hi)
try:
    refused = client.messages.create(model=os.environ["WRONG"], max_tokens=9, messages=hi).id
except anthropic.APIStatusError as error:
    refused = f"{error.status_code} {type(error).__name__} {error}"
print(
    json.dumps(
        {
            "version": anthropic.__version__,
            "asked": [call.input["city"] for call in calls],
            "text": last,
            "tokens": whole.usage.input_tokens,
            "whole": whole.content[0].text,
            "refused": refused,
        }
    )
)
