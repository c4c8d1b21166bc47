"""What users of other gateways reported: each file of reported/ against a real gateway.

The files say in words what is right; the checks here say it in assertions.
"""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.server.running import running
from tests.server.scripted_upstream import Asked, ScriptedUpstream

FOLDER = Path(__file__).parent / "reported"
FILES = sorted(FOLDER.glob("*.json"))
KEYS = {
    "openai": [{"id": "o1", "val": "sk-up-openai-one"}],
    "claude": [{"id": "c1", "val": "sk-ant-up-one"}],
    "google_gemini": [{"id": "g1", "val": "AIzaUpOne"}],
}
# The second step repeats the first with other words: it needs keys that are awake.
FRESH_FOR_EACH_STEP = {"key-400"}
TEN_MINUTES = 600


class Told:
    """How one step went: the caller's answer and what the upstream was asked."""

    def __init__(self, gateway, upstream: ScriptedUpstream, config: dict, step: dict) -> None:
        self._gateway, self._upstream, self._config = gateway, upstream, config
        self.step = step
        upstream.script(step["upstream"])
        request = step["request"]
        self.answer = httpx.request(
            request["method"], gateway.url + request["path"], json=request["body"], timeout=30
        )
        self.asked: list[Asked] = list(upstream.asked)

    def again(self, upstream: dict | None = None, **members) -> "Told":
        """The same with other members in the request, or another answer of the upstream."""
        step = copy.deepcopy(self.step)
        step["request"]["body"] |= members
        step["upstream"] = [upstream] if upstream is not None else step["upstream"]
        return Told(self._gateway, self._upstream, self._config, step)

    @property
    def sent(self):
        """The one body that the upstream got."""
        assert self.answer.status_code == 200, self.answer.text[:1000]
        assert len(self.asked) == 1
        return self.asked[0].json()

    def choice(self) -> dict:
        assert self.answer.status_code == 200, self.answer.text[:1000]
        return self.answer.json()["choices"][0]

    def events(self) -> list[dict]:
        """The chunks of a whole stream without an error."""
        assert self.answer.status_code == 200, self.answer.text[:1000]
        *lines, last = [line for line in self.answer.text.split("\n\n") if line]
        assert last == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert not any("error" in chunk for chunk in chunks)
        return chunks

    def text(self) -> str:
        """All that a stream says."""
        choices = [choice for chunk in self.events() for choice in chunk["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    def states(self) -> dict[str, str]:
        """The keys by their values: awake or not."""
        config = self._config
        values = {key["id"]: key["val"] for name in KEYS for key in config[name]["api_keys"]}
        keys = httpx.get(f"{self._gateway.url}/admin/keys").json()["keys"]
        return {values[key["id"]]: key["state"] for key in keys}

    def rests_and_another_answers(self, text: str = "ok") -> None:
        assert self.answer.status_code == 200, self.answer.text[:1000]
        assert text in self.answer.text
        assert len(self.asked) == 2
        first, second = (asked.key for asked in self.asked)
        assert first != second
        states = self.states()
        assert states[first] != "awake" and states[second] == "awake", states
        assert self.answer.headers["x-attempts"] == "2"


# --- one check for each step of a file ----------------------------------------------------------


def picture_of_claude(media_type: str) -> Callable[[Told], None]:
    def check(told: Told) -> None:
        blocks = told.sent["messages"][-1]["content"]
        (image,) = [block for block in blocks if block["type"] == "image"]
        assert image["source"]["media_type"] == media_type
        url = told.step["request"]["body"]["messages"][-1]["content"][-1]["image_url"]["url"]
        assert image["source"]["data"] == url.partition(",")[2]

    return check


def picture_in_a_result_too(told: Told) -> None:
    picture_of_claude("image/png")(told)
    parts = told.step["request"]["body"]["messages"][0]["content"]
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    history = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": parts},
    ]
    (result,) = told.again(messages=history).sent["messages"][-1]["content"]
    assert result["content"][-1]["source"]["media_type"] == "image/png"


def mark_on_system(told: Told) -> None:
    (block,) = told.sent["system"]
    assert block == {
        "type": "text",
        "text": "A long handbook ...",
        "cache_control": {"type": "ephemeral"},
    }
    assert "x-gateway-dropped-params" not in told.answer.headers


def mark_on_tool(told: Told) -> None:
    (tool,) = told.sent["tools"]
    assert tool["cache_control"] == {"type": "ephemeral"}
    assert "x-gateway-dropped-params" not in told.answer.headers


def schema_of_claude(check: Callable[[dict], None]) -> Callable[[Told], None]:
    """`check` is given what is said of the member m; the whole schema is one Claude takes."""

    def run(told: Told) -> None:
        schema = told.sent["output_config"]["format"]["schema"]
        assert schema["additionalProperties"] is False and schema["required"] == ["m"]
        check(schema["properties"]["m"])

    return run


def closed_object(member: dict) -> None:
    assert (member["type"], member["additionalProperties"]) == ("object", False)


def closed_among_others(member: dict) -> None:
    variants = member.get("anyOf", [member])
    types = [variant["type"] for variant in variants]
    named = [name for kind in types for name in (kind if isinstance(kind, list) else [kind])]
    assert set(named) == {"object", "array", "string", "number", "boolean", "null"}
    for variant in variants:
        if "object" in variant["type"]:
            assert variant["additionalProperties"] is False


def any_of(member: dict) -> None:
    assert "oneOf" not in member
    assert member["anyOf"] == [{"type": "string"}, {"type": "integer"}]


def calls_the_tool(told: Told) -> None:
    choice = told.choice()
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
        "look_up",
        {"q": "x"},
    )

    spoken = told.step["upstream"][0]
    longer = spoken | {"body": spoken["body"] | {"stop_reason": "max_tokens"}}
    assert told.again(longer).choice()["finish_reason"] == "length"
    tool = told.step["request"]["body"]["tools"][0]
    legacy = told.again(tools=None, functions=[tool["function"]]).choice()
    assert legacy["finish_reason"] == "function_call"
    assert legacy["message"]["function_call"]["name"] == "look_up"


def calls_the_tool_in_a_stream(told: Told) -> None:
    choices = [choice for chunk in told.events() for choice in chunk["choices"]]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["tool_calls"]
    calls = [call for c in choices for call in c["delta"].get("tool_calls") or ()]
    assert {call["index"] for call in calls} == {0}
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"q": "x"}


def second_key(told: Told) -> None:
    told.rests_and_another_answers()


def whole_picture(told: Told) -> None:
    (step,) = told.step["upstream"]
    long = next(part for part in step["body_parts"] if isinstance(part, dict))
    (picture,) = re.findall(r"data:image/png;base64,[A-Za-z0-9+/=]+", told.text())
    assert len(told.asked) == 1
    assert picture == "data:image/png;base64,iVBOR" + long["repeat"] * long["times"]


def legacy_call(told: Told) -> None:
    choice = told.choice()
    assert choice["finish_reason"] == "function_call"
    call = choice["message"]["function_call"]
    assert call == {"name": "look_up", "arguments": '{"q":"x"}'}
    assert "tool_calls" not in choice["message"]
    (spoken,) = told.step["upstream"]
    event = {
        "status": 200,
        "headers": {"content-type": "text/event-stream"},
        "body": f"data: {json.dumps(spoken['body'])}\r\n\r\n",
    }
    chunks = told.again(event, stream=True).events()
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["function_call"]
    calls = [c["delta"]["function_call"] for c in choices if "function_call" in c["delta"]]
    assert [call["name"] for call in calls if call.get("name")] == ["look_up"]
    assert "".join(call.get("arguments", "") for call in calls) == '{"q":"x"}'


def inline_type(media_type: str) -> Callable[[Told], None]:
    def check(told: Told) -> None:
        parts = told.sent["contents"][-1]["parts"]
        (held,) = [part["inlineData"] for part in parts if "inlineData" in part]
        assert held["mimeType"] == media_type

    return check


def rests_for_the_model(told: Told) -> None:
    assert told.answer.status_code == 429, told.answer.text
    assert len(told.asked) == 1
    assert 1 <= int(told.answer.headers["retry-after"]) <= TEN_MINUTES


def other_model_answers(told: Told) -> None:
    assert told.choice()["message"]["content"] == "ok"
    assert len(told.asked) == 1


def result_with_a_picture(told: Told) -> None:
    parts = told.sent["contents"][-1]["parts"]
    (response,) = [part["functionResponse"] for part in parts if "functionResponse" in part]
    assert response["name"] == "look_up"
    assert "A screenshot:" in json.dumps(response["response"])
    held = [*parts, *response.get("parts", ())]
    (picture,) = [part["inlineData"] for part in held if "inlineData" in part]
    assert picture["mimeType"] == "image/png" and picture["data"].startswith("iVBORw0KGgo")
    messages = told.step["request"]["body"]["messages"]
    result = messages[-1]
    alone = [*messages[:-1], result | {"content": result["content"][1:]}]
    parts = told.again(messages=alone).sent["contents"][-1]["parts"]
    assert [part["functionResponse"]["name"] for part in parts if "functionResponse" in part] == [
        "look_up"
    ]
    assert "iVBORw0KGgo" in json.dumps(parts)


def asked_by_name(told: Told) -> None:
    assert told.choice()["message"]["content"] == "ok"


def other_key_streams(told: Told) -> None:
    assert told.text() == "ok"
    assert told.answer.headers["x-attempts"] == "2"
    assert len({asked.key for asked in told.asked}) == 2


def events_as_they_came(told: Told) -> None:
    (upstream,) = told.step["upstream"]
    assert told.text() == "ok"
    assert told.answer.text == upstream["body"]
    assert told.answer.headers["content-type"].startswith("text/event-stream")
    assert set(told.states().values()) == {"awake"}
    page = upstream | {"headers": {"content-type": "text/html"}, "body": "<html>Hello</html>"}
    assert told.again(page).answer.status_code == 502
    assert told.again(upstream | {"body": {"object": "list"}}).answer.status_code == 502


CHECKS: dict[str, list[Callable[[Told], None]]] = {
    "claude-cache-control": [mark_on_system, mark_on_tool],
    "claude-image-type": [picture_in_a_result_too, picture_of_claude("image/gif")],
    "claude-schema": [
        schema_of_claude(closed_object),
        schema_of_claude(closed_among_others),
        schema_of_claude(any_of),
    ],
    "claude-tool-stop": [calls_the_tool, calls_the_tool_in_a_stream],
    "forward-key-400": [second_key, second_key],
    "gemini-big-image": [whole_picture],
    "gemini-legacy-functions": [legacy_call],
    "gemini-media-type": [
        inline_type("image/png"),
        inline_type("image/png"),
        inline_type("application/pdf"),
    ],
    "gemini-model-quota": [rests_for_the_model, other_model_answers],
    "gemini-tool-image": [result_with_a_picture],
    "key-400": [second_key, second_key],
    "proxy-socks5h": [asked_by_name],
    "silent-start": [other_key_streams, other_key_streams],
    "stream-type": [events_as_they_came],
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_was_reported_is_right_here(file, tmp_path):
    kind = json.loads(file.read_text())
    through_proxy = "proxy_url" in kind.get("config", {})
    steps = list(zip(kind["steps"], CHECKS[file.stem], strict=True))
    runs = [[step] for step in steps] if file.stem in FRESH_FOR_EACH_STEP else [steps]
    for number, run in enumerate(runs):
        upstream = ScriptedUpstream(socks=through_proxy)
        try:
            config = config_for(kind, upstream)
            with running(tmp_path / str(number), config) as gateway:
                for step, check in run:
                    check(Told(gateway, upstream, config, step))
                if through_proxy:
                    assert upstream.names == [(3, "upstream.example")]
        finally:
            upstream.stop()


def test_every_reported_kind_has_its_checks():
    assert [file.stem for file in FILES] == sorted(CHECKS)


def config_for(kind: dict, upstream: ScriptedUpstream) -> dict:
    config = {name: {"api_url": upstream.url, "api_keys": keys} for name, keys in KEYS.items()}
    for name, value in kind.get("config", {}).items():
        if name == "proxy_url":
            config[name] = value.rpartition(":")[0] + f":{upstream.port}"
        else:
            config[name] = config[name] | value
    return config
