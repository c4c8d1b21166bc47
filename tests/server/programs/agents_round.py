"""OpenAI's Agents SDK: a loop of tools, a handoff, streamed and not; prints JSON."""

import asyncio
import json
import os

from agents import (
    Agent,
    ModelSettings,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from openai.types.shared import Reasoning

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key="pool", max_retries=0)
asked = []


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    asked.append(city)
    return f"sunny in {city}"


def agent(name, model, **more):
    return Agent(
        name=name,
        instructions="Be kind.",
        model=OpenAIResponsesModel(model=model, openai_client=client),
        model_settings=ModelSettings(reasoning=Reasoning(effort="high")),
        **more,
    )


async def main():
    model = os.environ["MODEL"]
    helper = agent("helper", model)
    first = agent("first", model, tools=[get_weather], handoffs=[helper])
    question = 'call get_weather with {"city": "Paris"}'
    looped = await Runner.run(first, question)
    streamed = Runner.run_streamed(first, question)
    deltas = ""
    async for event in streamed.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            deltas += event.data.delta
    handed = await Runner.run(first, "call transfer_to_helper")
    try:
        refused = (await Runner.run(agent("wrong", os.environ["WRONG"]), "hi")).final_output
    except Exception as error:  # whatever class it is: its words are looked at
        refused = f"{getattr(error, 'status_code', 0)} {error}"
    print(
        json.dumps(
            {
                "asked": asked,
                "text": looped.final_output,
                "streamed": streamed.final_output,
                "deltas": deltas,
                "last_agent": handed.last_agent.name,
                "handed": handed.final_output,
                "tokens": looped.context_wrapper.usage.total_tokens,
                "refused": refused,
            }
        )
    )


asyncio.run(main())
