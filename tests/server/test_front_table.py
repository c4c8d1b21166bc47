"""Each API that callers may speak before each upstream, and the README's table of what works."""

import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import bing_coze, test_web_sessions
from tests.server.conftest import CLAUDE_KEYS, GEMINI_KEYS
from tests.server.running import running

JPEG = base64.b64encode(
    b"\xff\xd8\xff\xe0\x00\x10JFIF, front table"
).decode()  # all that Bing takes
CALL = 'call get_weather with {"city": "Paris"}'
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: dict[str, Any] = {"name": "get_weather", "description": "The weather."}
DATA_URL = f"data:image/jpeg;base64,{JPEG}"


class Chat:
    """POST /c/v1/chat/completions."""

    def path(self, model: str, stream: bool) -> str:
        return "/c/v1/chat/completions"

    def body(self, model: str, stream: bool, text: str, picture: bool, tool: bool) -> dict:
        content: list[Any] = [{"type": "text", "text": text}]
        if picture:
            content.append({"type": "image_url", "image_url": {"url": DATA_URL}})
        tools = [{"type": "function", "function": TOOL | {"parameters": CITY}}]
        messages = [{"role": "user", "content": content}]
        body = {"model": model, "messages": messages, "stream": stream}
        return body | ({"tools": tools} if tool else {})

    def text(self, said: dict) -> str:
        return said["choices"][0]["message"]["content"]

    def call(self, said: dict) -> tuple[str, dict]:
        (call,) = said["choices"][0]["message"]["tool_calls"]
        return call["function"]["name"], json.loads(call["function"]["arguments"])

    def streamed(self, events: list[dict]) -> str:
        assert events[-1] == {}  # [DONE]
        told = [event["choices"][0] for event in events if event.get("choices")]
        assert any(choice["finish_reason"] == "stop" for choice in told)
        return "".join(choice["delta"].get("content") or "" for choice in told)

    def check_error(self, said: dict, status: int) -> None:
        assert said["error"]["message"] and said["error"]["type"]


class Responses(Chat):
    """POST /c/v1/responses."""

    def path(self, model: str, stream: bool) -> str:
        return "/c/v1/responses"

    def body(self, model: str, stream: bool, text: str, picture: bool, tool: bool) -> dict:
        content = [{"type": "input_text", "text": text}]
        if picture:
            content.append({"type": "input_image", "image_url": DATA_URL})
        body = {"model": model, "input": [{"role": "user", "content": content}], "stream": stream}
        tools = [TOOL | {"type": "function", "parameters": CITY}]
        return body | ({"tools": tools} if tool else {})

    def text(self, said: dict) -> str:
        parts = [part for item in said["output"] for part in item.get("content") or ()]
        return "".join(part.get("text", "") for part in parts)

    def call(self, said: dict) -> tuple[str, dict]:
        (call,) = (item for item in said["output"] if item["type"] == "function_call")
        return call["name"], json.loads(call["arguments"])

    def streamed(self, events: list[dict]) -> str:
        assert events[-1]["type"] == "response.completed"
        kind = "response.output_text.delta"
        return "".join(event["delta"] for event in events if event["type"] == kind)


class Messages(Chat):
    """POST /c/v1/messages."""

    def path(self, model: str, stream: bool) -> str:
        return "/c/v1/messages"

    def body(self, model: str, stream: bool, text: str, picture: bool, tool: bool) -> dict:
        content: list[Any] = [{"type": "text", "text": text}]
        if picture:
            source = {"type": "base64", "media_type": "image/jpeg", "data": JPEG}
            content.append({"type": "image", "source": source})
        messages = [{"role": "user", "content": content}]
        body = {"model": model, "max_tokens": 500, "messages": messages, "stream": stream}
        return body | ({"tools": [TOOL | {"input_schema": CITY}]} if tool else {})

    def text(self, said: dict) -> str:
        return "".join(block.get("text", "") for block in said["content"])

    def call(self, said: dict) -> tuple[str, dict]:
        (call,) = (block for block in said["content"] if block["type"] == "tool_use")
        return call["name"], call["input"]

    def streamed(self, events: list[dict]) -> str:
        assert events[-1]["type"] == "message_stop"
        return "".join(event.get("delta", {}).get("text", "") for event in events)

    def check_error(self, said: dict, status: int) -> None:
        assert said["type"] == "error" and said["error"]["type"] and said["error"]["message"]


class Gemini(Chat):
    """POST /c/v1beta/models/{model}:generateContent."""

    def path(self, model: str, stream: bool) -> str:
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/c/v1beta/models/{model}:{method}"

    def body(self, model: str, stream: bool, text: str, picture: bool, tool: bool) -> dict:
        parts: list[Any] = [{"text": text}]
        if picture:
            parts.append({"inlineData": {"mimeType": "image/jpeg", "data": JPEG}})
        body = {"contents": [{"role": "user", "parts": parts}]}
        tools = [{"functionDeclarations": [TOOL | {"parametersJsonSchema": CITY}]}]
        return body | ({"tools": tools} if tool else {})

    def text(self, said: dict) -> str:
        return "".join(part.get("text", "") for part in said["candidates"][0]["content"]["parts"])

    def call(self, said: dict) -> tuple[str, dict]:
        parts = said["candidates"][0]["content"]["parts"]
        (call,) = (part["functionCall"] for part in parts if "functionCall" in part)
        return call["name"], call["args"]

    def streamed(self, events: list[dict]) -> str:
        assert events[-1]["candidates"][0]["finishReason"] == "STOP"
        return "".join(self.text(event) for event in events if "candidates" in event)

    def check_error(self, said: dict, status: int) -> None:
        assert said["error"]["code"] == status and said["error"]["message"]
        assert re.fullmatch("[A-Z_]+", said["error"]["status"])


# As the columns are called in README.md.
FRONTS = {
    "OpenAI chat": Chat(),
    "OpenAI Responses": Responses(),
    "Anthropic Messages": Messages(),
    "Gemini": Gemini(),
}
# The upstream as the rows are called, the model, and the gateway's own members of a body. The name
# of a model that is refused stands where the simulator has one.
UPSTREAMS: dict[str, tuple[str, dict, str]] = {
    "OpenAI API": ("openai/gpt-4o", {}, "openai/missing-model"),
    "Claude API": ("claude/claude-sonnet-4-5", {}, "claude/missing-model"),
    "Gemini API": ("gemini/gemini-2.5-flash", {}, "gemini/missing-model"),
    "any OpenAI-compatible host": ("lab/gpt-4o", {}, "lab/missing-model"),
    "ChatGPT web": ("auto", {"provider": "openai-chat-web"}, ""),
    "Claude web": ("claude-sonnet-4-5", {"provider": "claude", "claude": {"type": "web"}}, ""),
    "Bing": ("bing/gpt-4", {}, ""),
    "Coze API": ("coze-api", {"provider": "coze"}, ""),
    "Coze over Discord": ("gpt-4", {"provider": "coze"}, ""),
}
# What a cell says in each README, by what does not work.
WORDS = {
    "README.md": {(): "all", ("tools",): "no tools"},
    "README.zh-CN.md": {(): "全部", ("tools",): "无工具"},
}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    """Everything at once: keys, web sessions, bots, a channel, a compatible host."""
    folder = tmp_path_factory.mktemp("front-table")
    config = test_web_sessions.config_for(simulator, folder)
    config["workers"] = 1
    config["openai"] |= {"api_keys": [{"id": "k", "val": "sk-table-1"}]}
    config["claude"] |= {
        "api_url": f"{simulator.url}/claude",
        "api_keys": [{"id": i, "val": v} for i, v in CLAUDE_KEYS.items()],
    }
    config["google_gemini"] = {
        "api_url": f"{simulator.url}/gemini",
        "api_keys": [{"id": i, "val": v} for i, v in GEMINI_KEYS.items()],
    }
    lab = {"name": "lab", "api_url": f"{simulator.url}/openai/v1"}
    config["upstreams"] = [lab | {"api_keys": [{"id": "l", "val": "sk-lab-1"}]}]
    config |= bing_coze.config_for(simulator.url, quiet_seconds=0.1)
    config["coze"]["api_chat"]["bots"] = config["coze"]["api_chat"]["bots"][:2]  # no faulty ones
    with running(folder, config) as started:
        end = time.monotonic() + 15  # the bridge to Discord has no session yet
        while ask(started.url, FRONTS["OpenAI chat"], "Coze over Discord").status_code != 200:
            assert time.monotonic() < end, started.err.read_text()
            time.sleep(0.1)
        yield started


def ask(
    url: str,
    front: Chat,
    upstream: str,
    text: str = "blue moon",
    *,
    model: str = "",
    stream: bool = False,
    picture: bool = False,
    tool: bool = False,
) -> httpx.Response:
    usual, members, _ = UPSTREAMS[upstream]
    model = model or usual
    body = front.body(model, stream, text, picture, tool) | members
    return httpx.post(url + front.path(model, stream), json=body, timeout=20)


def events_of(reply: httpx.Response) -> list[dict]:
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    return [{} if line == "[DONE]" else json.loads(line) for line in lines]


def what_fails(url: str, simulator, front: Chat, upstream: str) -> tuple[str, ...]:
    """What of tools and pictures the front cannot have of the upstream; the rest must work."""
    failing = []
    whole = ask(url, front, upstream)
    assert whole.status_code == 200, whole.text
    assert "blue moon" in front.text(whole.json())
    streamed = ask(url, front, upstream, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert "blue moon" in front.streamed(events_of(streamed))

    called = ask(url, front, upstream, CALL, tool=True)
    if "tools" in called.headers.get("x-gateway-dropped-params", "").split(", "):
        assert type(front) is Chat, "the others refuse what they would have to leave out"
        failing.append("tools")
    elif called.status_code == 200:
        assert front.call(called.json()) == ("get_weather", {"city": "Paris"})
    else:
        assert called.status_code == 400, called.text
        front.check_error(called.json(), 400)
        failing.append("tools")

    shown = ask(url, front, upstream, "what is it?", picture=True)
    if shown.status_code == 200:
        # The simulated sites say that they have it; the simulated APIs were sent it.
        told = re.search(r"\(with .*(picture|files)|cdn\.example", front.text(shown.json()))
        assert told or JPEG in json.dumps(simulator.last(2)), shown.text
    else:
        front.check_error(shown.json(), shown.status_code)
        failing.append("pictures")

    if refused := UPSTREAMS[upstream][2]:
        reply = ask(url, front, upstream, model=refused)
        assert reply.status_code in (400, 404), reply.text  # Responses have 400 for it
        front.check_error(reply.json(), reply.status_code)
    return tuple(failing)


@pytest.mark.timeout(120)
def test_the_readmes_tell_what_each_api_has_of_each_upstream(gateway, simulator):
    found = {
        upstream: [what_fails(gateway.url, simulator, front, upstream) for front in FRONTS.values()]
        for upstream in UPSTREAMS
    }
    for name, words in WORDS.items():
        table = rows_of((ROOT / name).read_text())
        told = [[words.get(fails, f"no {fails}") for fails in cells] for cells in found.values()]
        assert table == told, f"{name} should say {dict(zip(UPSTREAMS, told, strict=True))}"


@pytest.mark.parametrize("upstream", ["ChatGPT web", "Claude web", "Bing", "Coze API"])
def test_sites_that_know_no_stop_sequence_are_cut_at_one(gateway, upstream):
    model, members, _ = UPSTREAMS[upstream]
    body = FRONTS["Anthropic Messages"].body(model, False, "blue moon tonight", False, False)
    body |= members | {"stop_sequences": ["sun", "moon t"], "system": "Be brief."}
    said = httpx.post(f"{gateway.url}/c/v1/messages", json=body, timeout=20).json()
    assert said["content"][0]["text"].endswith("blue ")
    assert (said["stop_reason"], said["stop_sequence"]) == ("stop_sequence", "moon t")


def rows_of(text: str) -> list[list[str]]:
    """The cells below the line that names the fronts, without the upstream's name."""
    _, _, below = text.partition(f"| {' | '.join(FRONTS)} |\n")
    rows = []
    for line in below.splitlines()[1:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")][1:])
    return rows


def test_both_readmes_name_the_same_upstreams_in_the_table():
    english = (ROOT / "README.md").read_text()
    _, _, below = english.partition(f"| {' | '.join(FRONTS)} |\n")
    names = [line.split("|")[1].strip() for line in below.splitlines()[1 : len(UPSTREAMS) + 1]]
    assert names == list(UPSTREAMS)
