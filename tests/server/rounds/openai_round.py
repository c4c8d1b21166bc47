"""What a user of the OpenAI client does in a day, told as one JSON object.

Runs with the newest client and with 1.x alike: `python openai_round.py`, its wishes in the
environment: BASE (the gateway), KEY, MODEL (with or without a prefix), PROVIDER ("" or the body's
`provider`).
The npm round beside it says the same in the same words, so that one table can expect both.
"""

import json
import os
from contextlib import closing
from typing import Any

import openai

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": CITY}}
    for name in ("get_weather", "get_news")
]
CALL_BOTH = 'call get_weather with {"city": "Paris"} and get_news with {"city": "Oslo"}'
FORM: Any = {
    "type": "json_schema",
    "json_schema": {"name": "place", "strict": True, "schema": CITY},
}
FAULTS = ("sim-400", "sim-401", "sim-403", "missing-model", "sim-429-after-7", "sim-500")


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


class Round:
    def __init__(self, gateway: str, key: str, model: str, provider: str) -> None:
        base = f"{gateway}/c/v1"
        self.client = openai.OpenAI(base_url=base, api_key="pool", max_retries=0)
        self.own = openai.OpenAI(base_url=base, api_key=key, max_retries=0)
        self.raw = openai.OpenAI(base_url=f"{gateway}/v1", api_key="pool", max_retries=0)
        self.model = model
        self.more: dict[str, Any] = {"extra_body": {"provider": provider}} if provider else {}

    def create(self, messages: list[Any], **asked: Any) -> Any:
        asked = {"model": self.model, "messages": messages, **self.more, **asked}
        return self.client.chat.completions.create(**asked)

    def told(self) -> dict[str, Any]:
        said = {
            "whole": self.whole(),
            "streamed": self.streamed(),
            "system": self.text(
                [
                    {"role": "system", "content": "brief"},
                    {"role": "developer", "content": "and"},
                    *ask("blue moon"),
                ]
            ),
            "turns": self.text(
                [
                    *ask("red fox"),
                    {"role": "assistant", "content": "You said: red fox"},
                    *ask("blue moon"),
                ]
            ),
            "image": self.image(),
            "tools": self.tools(streams=False, choice="auto", results=True),
            "streamed_tools": self.tools(streams=True, choice="auto", results=True),
            "one_tool": self.tools(
                streams=False,
                choice={"type": "function", "function": {"name": "get_news"}},
                results=False,
            ),
            "schema": json.loads(self.text(ask("Paris"), response_format=FORM)),
            "headers": self.headers(),
            "errors": {name: self.error(name) for name in FAULTS},
            "streamed_errors": {name: self.error(name, stream=True) for name in FAULTS},
            "broken": self.broken(),
            "models": self.models(),
            "beside": self.beside(),
        }
        return said

    def close(self) -> None:
        for client in (self.client, self.own, self.raw):
            client.close()

    def text(self, messages: list[Any], **asked: Any) -> str:
        content: str = self.create(messages, **asked).choices[0].message.content
        return content

    def whole(self) -> dict[str, Any]:
        answer = self.create(ask("blue moon"))
        usage = answer.usage
        return {
            "text": answer.choices[0].message.content,
            "role": answer.choices[0].message.role,
            "end": answer.choices[0].finish_reason,
            "counts": usage.prompt_tokens > 0
            and usage.completion_tokens > 0
            and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens,
        }

    def streamed(self) -> dict[str, Any]:
        plain = list(self.create(ask("blue moon"), stream=True))
        counted = list(
            self.create(ask("blue moon"), stream=True, stream_options={"include_usage": True})
        )
        usage = self.create(ask("blue moon")).usage
        told = [chunk.choices[0] for chunk in plain if chunk.choices]
        return {
            "text": "".join(choice.delta.content or "" for choice in told),
            "role": told[0].delta.role,
            "pieces": len(told) > 3,
            "ends": [choice.finish_reason for choice in told if choice.finish_reason],
            "one_id": len({chunk.id for chunk in plain}) == 1,
            "usage_unasked": any(chunk.usage for chunk in plain),
            "usage_last": counted[-1].choices == []
            and counted[-1].usage.total_tokens == usage.total_tokens,
        }

    def image(self) -> str:
        url = f"data:image/png;base64,{PIXEL}"
        parts = [
            {"type": "text", "text": "blue moon"},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        return self.text([{"role": "user", "content": parts}])

    def tools(self, streams: bool, choice: Any, results: bool) -> dict[str, Any]:
        asked: dict[str, Any] = {"tools": TOOLS, "tool_choice": choice}
        messages = ask(CALL_BOTH)
        calls: list[dict[str, str]] = []
        if streams:
            end = None
            for chunk in self.create(messages, stream=True, **asked):
                for piece in chunk.choices[0].delta.tool_calls or []:
                    if piece.index == len(calls):
                        calls.append({"id": piece.id, "name": piece.function.name, "said": ""})
                    calls[piece.index]["said"] += piece.function.arguments or ""
                end = chunk.choices[0].finish_reason or end
        else:
            answer = self.create(messages, **asked).choices[0]
            end = answer.finish_reason
            for call in answer.message.tool_calls:
                function = call.function
                calls.append({"id": call.id, "name": function.name, "said": function.arguments})
        said = {
            "names": [call["name"] for call in calls],
            "arguments": [json.loads(call["said"]) for call in calls],
            "ids": len({call["id"] for call in calls}) == len(calls),
            "end": end,
        }
        if results:
            messages.append(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": call["id"],
                            "type": "function",
                            "function": {"name": call["name"], "arguments": call["said"]},
                        }
                        for call in calls
                    ],
                }
            )
            for call in calls:
                content = f"it is {call['name']}"
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
            text = self.text(messages, tools=TOOLS)
            said["used"] = ["it is get_weather" in text, "it is get_news" in text]
        return said

    def headers(self) -> dict[str, Any]:
        asked = {"model": self.model, "messages": ask("a"), **self.more}
        reply = self.client.chat.completions.with_raw_response.create(
            extra_headers={"x-request-id": "mine-7"}, **asked
        )
        return {
            "key": reply.headers["x-auth-id"],
            "request": reply.headers["x-request-id"],
            "text": reply.parse().choices[0].message.content,
        }

    def error(self, name: str, **asked: Any) -> list[Any]:
        prefix, slash, _ = self.model.rpartition("/")
        # The caller's own key: one of the pool would have to rest afterwards.
        try:
            self.own.chat.completions.create(
                model=prefix + slash + name, messages=ask("a"), **self.more, **asked
            )
        except openai.APIStatusError as error:
            retry_after = error.response.headers.get("retry-after")
            return [type(error).__name__, error.status_code, retry_after]
        return ["no error"]

    def broken(self) -> list[Any]:
        prefix, slash, _ = self.model.rpartition("/")
        seen = 0
        try:
            for _ in self.own.chat.completions.create(
                model=prefix + slash + "sim-cut-after-5",
                messages=ask("a b c d e f"),
                stream=True,
                **self.more,
            ):
                seen += 1
        except openai.APIError as error:
            return [seen > 0, error.code]
        return ["no error"]

    def models(self) -> list[Any]:
        listed = list(self.client.models.list())
        providers = {(model.model_extra or {})["provider"] for model in listed}
        name = next(m.id for m in listed if (m.model_extra or {})["provider"] == "claude")
        return [
            sorted(providers),
            self.client.models.retrieve(name).id == name,
            self.client.models.retrieve(f"claude/{name}").id == name,
        ]

    def beside(self) -> list[Any]:
        """What OpenAI's API has besides chat, by the raw door."""
        content = bytes(range(256)) * 400
        made = self.raw.files.create(file=("data.bin", content), purpose="user_data")
        same = self.raw.files.content(made.id).read() == content
        return [
            len(self.raw.embeddings.create(model="text-embedding-3-small", input="x").data),
            self.raw.models.retrieve("gpt-4o").id,
            made.bytes,
            same,
            self.raw.files.delete(made.id).deleted,
        ]


def main() -> None:
    wish = os.environ
    with closing(Round(wish["BASE"], wish["KEY"], wish["MODEL"], wish["PROVIDER"])) as done:
        print(json.dumps({"version": openai.__version__, **done.told()}))


if __name__ == "__main__":
    main()
