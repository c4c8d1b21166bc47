"""Responses bodies as the neutral request, and on to each kind of upstream."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from anthropic.types import MessageParam
from anthropic.types import message_create_params as claude_params
from google.genai import types as google
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from openai.types.chat import completion_create_params as openai_params
from pydantic import TypeAdapter

from app.config.schema import Config
from app.engine.call import dropped_names
from app.fronts.openai_responses.request import COMPACT, RESPONSES
from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError
from app.wire.front import Incoming
from app.wire.kept import Kept, item_id, response_id
from app.wire.provider import Call, Key, Provider
from app.wire.signature_mark import mark
from providers.claude import api as claude
from providers.gemini import api as gemini
from providers.openai import api as openai
from tests.calls import FRONTS, counted_ids

FRONT = FRONTS["openai-responses"]
RECORDED = Path(__file__).parents[1] / "recorded" / "responses"
STREAMED = TypeAdapter(openai_params.CompletionCreateParamsStreaming)
WHOLE = TypeAdapter(openai_params.CompletionCreateParamsNonStreaming)
MESSAGES = TypeAdapter(list[MessageParam])
# State and runs at OpenAI: the sheet refuses them for others.
REFUSED = {
    "codex-websocket-turn2": "previous_response_id",
    "ai-sdk-tool-turn2-default-store": "input[1].id",
    "previous-response-id-1.json": "previous_response_id",
    "previous-response-id-2.json": "previous_response_id",
    "background-queued.json": "background",
}


def recorded() -> dict[str, tuple[str, dict[str, Any]]]:
    """The bodies that clients were recorded to send, with their paths."""
    found = {}
    for file in ("client-requests.json", "requests.json"):
        for name, case in json.loads((RECORDED / file).read_text()).items():
            body = case.get("body")
            if isinstance(body, dict) and "model" in body:
                path = str(case["path"]).removeprefix("/v1/responses").partition("?")[0]
                found[name] = (path, body)
    return found


BODIES = recorded()


def asked_of(body: dict[str, Any], path: str = "", headers: dict[str, str] | None = None) -> Any:
    return FRONT.glance(
        Incoming(RESPONSES + path, {}, "", headers or {}, json.dumps(body).encode())
    )


def read(body: dict[str, Any], path: str = "", kept: dict[str, Kept] | None = None) -> ChatRequest:
    asked = asked_of({"model": "m"} | body, path)
    asked.kept = kept or {}
    assert FRONT.read is not None
    return FRONT.read(asked)


def refused(body: dict[str, Any]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read(body)
    assert caught.value.status == 400
    return caught.value


def user(text: str = "Hi") -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def call(name: str, id: str = "call_1", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": name, "arguments": "{}"} | more


def output(id: str = "call_1", text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": text}


def roles(chat: ChatRequest) -> list[str]:
    return [message.role for message in chat.messages]


# --- to each kind of upstream --------------------------------------------------------------------


def call_of(provider: Provider, chat: ChatRequest, asked: Any) -> Call:
    return Call(
        config=Config(),
        asked=asked,
        chat=provider.read(chat, asked),
        key=Key(provider.pool, "1", "s3cret"),
        model={"claude": "claude-sonnet-4-5", "gemini": "gemini-3-flash"}.get(
            provider.family, "gpt-5"
        ),
        stream=asked.stream,
        headers={},
        now=1_780_000_000,
        new_id=counted_ids(),
    )


def sent(provider: Provider, chat: ChatRequest, asked: Any) -> dict[str, Any]:
    request = provider.request(call_of(provider, chat, asked))
    assert isinstance(request.body, bytes)
    told: dict[str, Any] = json.loads(request.body)
    return told


def named(provider: Provider, body: dict[str, Any]) -> list[str]:
    """What the caller is told to be left out on the way to this upstream."""
    asked = asked_of({"model": "m", "input": "Hi"} | body)
    assert FRONT.read is not None
    call = call_of(provider, FRONT.read(asked), asked)
    provider.request(call)
    return dropped_names(call.chat, provider, FRONT, call.dropped)


def openai_body(body: dict[str, Any]) -> None:
    (STREAMED if body.get("stream") else WHOLE).validate_python(body)


def claude_body(body: dict[str, Any]) -> None:
    MESSAGES.validate_python(body["messages"])
    blocks = [block for message in body["messages"] for block in message["content"]]
    ids = [block["id"] for block in blocks if _kind(block) == "tool_use"]
    assert len(ids) == len(set(ids))
    assert set(body) <= {*claude_params.MessageCreateParamsBase.__annotations__, "stream"}


def _kind(block: Any) -> str:
    return block.get("type", "") if isinstance(block, dict) else ""


def gemini_body(body: dict[str, Any]) -> None:
    for content in body["contents"]:
        google.Content.model_validate(content)
    for tool in body.get("tools", ()):
        google.Tool.model_validate(tool)
    google.GenerationConfig.model_validate(body.get("generationConfig", {}))


UPSTREAMS = [
    (openai.PROVIDER, openai_body),
    (claude.PROVIDER, claude_body),
    (gemini.PROVIDER, gemini_body),
]


@pytest.mark.parametrize(("provider", "check"), UPSTREAMS, ids=["openai", "claude", "gemini"])
@pytest.mark.parametrize("name", BODIES)
def test_a_recorded_body_is_told_to_each_upstream(name, provider, check):
    path, body = BODIES[name]
    asked = asked_of(body, path)
    assert FRONT.read is not None
    if name in REFUSED:
        with pytest.raises(GatewayError) as caught:
            FRONT.read(asked)
        assert (caught.value.status, caught.value.param) == (400, REFUSED[name])
        return
    try:
        check(sent(provider, FRONT.read(asked), asked))
    except GatewayError as error:
        assert (name, error.param) == ("error-400-temperature.json", "temperature")


ODD = st.sampled_from([None, 0, -1, "", "x", [], {}, [None], {"type": "odd"}, True, 1e300, ["a"]])


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _paths(inner, (*path, key))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_mutated_body_is_translated_or_a_400(data):
    path, body = BODIES[data.draw(st.sampled_from(sorted(BODIES)))]
    body = json.loads(json.dumps(body))
    for _ in range(data.draw(st.integers(1, 3))):
        *inside, last = data.draw(st.sampled_from([p for p in _paths(body) if p]))
        place = body
        for key in inside:
            place = place[key]
        place[last] = json.loads(json.dumps(data.draw(ODD)))
    provider, _ = data.draw(st.sampled_from(UPSTREAMS))
    try:
        asked = asked_of(body, path)
        assert FRONT.read is not None
        sent(provider, FRONT.read(asked), asked)
    except GatewayError as error:
        assert error.status == 400 and error.message


# --- items ---------------------------------------------------------------------------------------


class TestCodex:
    @pytest.mark.parametrize("name", ["codex-unknown-model-turn1", "codex-gpt-5.5-turn1"])
    def test_its_prompt_stays_several_system_messages(self, name):
        assert roles(read(BODIES[name][1])) == ["system", "system", "user", "user"]

    def test_namespaces_become_flat_names(self):
        chat = read(BODIES["codex-unknown-model-turn1"][1])
        names = [tool.function.name for tool in chat.tools or () if tool.function]
        assert "multi_agent_v1__close_agent" in names
        assert [tool.kind for tool in chat.server_tools] == ["web_search"]
        assert chat.dropped == []

    def test_custom_tools_are_wrapped(self):
        chat = read(BODIES["codex-gpt-5.5-turn1"][1])
        functions = {
            tool.function.name: tool.function for tool in chat.tools or () if tool.function
        }
        patch = functions["apply_patch"]
        assert list(json.loads(bytes((patch.parameters or {})["properties"]))) == ["input"]
        assert "lark grammar" in (patch.description or "")
        assert "tool_search" in functions

    def test_tools_may_come_as_an_item(self):
        chat = read(BODIES["codex-gpt-6-sol-turn1"][1])
        names = [tool.function.name for tool in chat.tools or () if tool.function]
        assert "functions__exec" in names

    def test_a_custom_call_comes_back_in_its_wrapper(self):
        chat = read(BODIES["codex-gpt-5.5-custom-tool-turn2"][1])
        [said] = [m.tool_calls for m in chat.messages if m.tool_calls]
        assert said[0].function is not None
        wrapped = json.loads(said[0].function.arguments or "")
        assert wrapped["input"].startswith("*** Begin Patch")


class TestOrder:
    def test_outputs_follow_their_calls_in_their_order(self):
        items = [
            user(),
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": "Hm."},
            call("f", "call_1"),
            call("g", "call_2"),
            output("call_2", "two"),
            output("call_1", "one"),
            user("And?"),
        ]
        chat = read({"input": items})
        assert roles(chat) == ["user", "assistant", "tool", "tool", "user"]
        assert [m.text() for m in chat.messages] == ["Hi", "Hm.", "one", "two", "And?"]

    def test_what_stands_between_a_call_and_its_output_moves_behind_it(self):
        chat = read({"input": [user(), call("f"), user("Wait!"), output()]})
        assert [m.text() for m in chat.messages] == ["Hi", "", "done", "Wait!"]

    def test_a_missing_output_has_a_placeholder(self):
        chat = read({"input": [user(), call("f"), user("And?")]})
        assert [m.text() for m in chat.messages] == ["Hi", "", "no result", "And?"]

    def test_an_output_of_no_call_is_refused(self):
        error = refused({"input": [user(), output("call_9")]})
        assert error.param == "input[1].call_id" and "call_9" in error.message

    def test_one_id_in_two_rounds_is_two_calls(self):
        items = [user(), call("f"), output(text="1"), call("f"), output(text="2")]
        chat = read({"input": items})
        ids = [c.id for m in chat.messages for c in m.tool_calls or ()]
        assert len(set(ids)) == 2
        assert [m.text() for m in chat.messages if m.role == "tool"] == ["1", "2"]
        assert [m.tool_call_id for m in chat.messages if m.role == "tool"] == ids

    def test_an_output_without_an_id_is_found_by_the_tools_name(self):
        items = [user(), call("f"), {"type": "function_call_output", "name": "f", "output": "x"}]
        assert read({"input": items}).messages[-1].text() == "x"

    def test_a_late_system_message_keeps_its_place(self):
        items = [{"role": "developer", "content": "A"}, user(), {"role": "system", "content": "B"}]
        assert [m.keeps_place for m in read({"input": items}).messages] == [False, False, True]


class TestThoughts:
    BLOCK: dict[str, Any] = {"type": "thinking", "thinking": "hm", "signature": "s"}

    def thought(self, signature: str | None, text: str = "hm") -> dict[str, Any]:
        summary = [{"type": "summary_text", "text": text}] if text else []
        return {
            "type": "reasoning",
            "summary": summary,
            "content": None,
            "encrypted_content": signature,
        }

    def test_claudes_blocks_come_back_whole_and_in_place(self):
        first, second = [self.BLOCK], [self.BLOCK | {"thinking": "ho"}]
        items = [
            user(),
            self.thought(mark("c", json.dumps(first))),
            call("f", "call_1"),
            self.thought(mark("c", json.dumps(second))),
            call("g", "call_2"),
            output("call_1"),
            output("call_2"),
        ]
        asked = asked_of({"model": "m", "input": items, "reasoning": {"effort": "high"}})
        assert FRONT.read is not None
        chat = FRONT.read(asked)
        assert chat.messages[1].thinking_blocks == first
        assert [c.thinking_blocks for c in chat.messages[1].tool_calls or ()] == [None, second]
        told = sent(claude.PROVIDER, chat, asked)["messages"][1]["content"]
        assert [block["type"] for block in told] == ["thinking", "tool_use"] * 2
        assert told[0] == first[0] and told[2] == second[0]

    def test_geminis_signature_goes_to_the_next_call(self):
        items = [user(), self.thought(mark("g", "gsig"), ""), call("f"), call("g", "call_2")]
        items += [output(), output("call_2")]
        asked = asked_of({"model": "m", "input": items})
        assert FRONT.read is not None
        chat = FRONT.read(asked)
        [first, second] = chat.messages[1].tool_calls or ()
        assert first.extra_content == {"google": {"thought_signature": "gsig"}}
        assert second.extra_content is None
        parts = sent(gemini.PROVIDER, chat, asked)["contents"][1]["parts"]
        assert parts[0]["thoughtSignature"] == "gsig"

    @pytest.mark.parametrize("signature", ["gAAAAABforeign", mark("c")[:-3] + "%%%", "x"])
    def test_a_foreign_blob_is_left_out_and_named(self, signature):
        chat = read({"input": [user(), self.thought(signature), call("f"), output()]})
        assert chat.messages[1].reasoning_content is None
        assert chat.messages[1].thinking_blocks is None
        assert chat.dropped == ["input[].reasoning"]

    def test_a_foreign_blob_that_says_nothing_is_left_out_in_silence(self):
        chat = read({"input": [user(), self.thought("gAAAA", ""), call("f"), output()]})
        assert chat.dropped == []

    def test_thoughts_of_the_current_round_come_back_as_text(self):
        round_ = [self.thought(mark("t")), call("f"), output()]
        assert read({"input": [user(), *round_]}).messages[1].reasoning_content == "hm"
        over = read({"input": [user(), *round_, user("And?")]})
        assert over.messages[1].reasoning_content is None

    def test_a_thought_alone_is_no_message(self):
        assert roles(read({"input": [user(), self.thought(None)]})) == ["user"]


class TestContent:
    def test_pictures_files_and_sound(self):
        parts = [
            {"type": "input_text", "text": ""},
            {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "original"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "JVBERi0="},
            {"type": "input_file", "file_url": "https://example.com/a.pdf"},
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        ]
        chat = read({"input": [{"role": "user", "content": parts}]})
        image, inline, linked, sound = chat.messages[0].parts()
        assert image.image_url is not None and image.image_url.detail == "high"  # type: ignore[union-attr]
        assert inline.file is not None
        assert inline.file.file_data == "data:application/pdf;base64,JVBERi0="
        assert linked.file is not None and linked.file.url == "https://example.com/a.pdf"
        assert sound.input_audio is not None

    @pytest.mark.parametrize(
        ("part", "end"),
        [
            ({"type": "input_image", "file_id": "file_1"}, "file_id"),
            ({"type": "input_file", "file_id": "file_1"}, "file_id"),
            ({"type": "input_hologram"}, "type"),
        ],
    )
    def test_content_that_cannot_be_told_is_refused(self, part, end):
        error = refused({"input": [{"role": "user", "content": [part]}]})
        assert error.param == f"input[0].content[0].{end}"

    @pytest.mark.parametrize("role", ["system", "developer", "assistant"])
    def test_pictures_in_messages_that_hold_text_only_are_refused(self, role):
        picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
        parts = [{"type": "input_text", "text": "see"}, picture]
        error = refused({"input": [user(), {"role": role, "content": parts}]})
        assert error.param == "input[1].content[1].type"

    def test_an_output_may_hold_a_picture(self):
        parts = [
            {"type": "input_text", "text": "see"},
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="},
        ]
        items = [user(), call("f"), output(text=parts)]
        asked = asked_of({"model": "m", "input": items})
        assert FRONT.read is not None
        chat = FRONT.read(asked)
        assert [part.type for part in chat.messages[-1].parts()] == ["text", "image_url"]
        block = sent(claude.PROVIDER, chat, asked)["messages"][-1]["content"][0]
        assert [inner["type"] for inner in block["content"]] == ["text", "image"]


class TestOtherItems:
    def test_shells_and_patches(self):
        items = [
            user(),
            {
                "type": "local_shell_call",
                "call_id": "call_1",
                "action": {"type": "exec", "command": ["ls"]},
            },
            {"type": "local_shell_call_output", "id": "call_1", "output": "a"},
            {"type": "shell_call", "call_id": "call_2", "action": {"commands": ["ls"]}},
            {
                "type": "shell_call_output",
                "call_id": "call_2",
                "output": [{"stdout": "a", "stderr": ""}],
            },
            {
                "type": "apply_patch_call",
                "call_id": "call_3",
                "operation": {"type": "delete_file", "path": "a"},
            },
            {"type": "apply_patch_call_output", "call_id": "call_3", "status": "completed"},
        ]
        chat = read({"input": items})
        calls = [c.function for m in chat.messages for c in m.tool_calls or ()]
        assert [(c.name, json.loads(c.arguments or "")) for c in calls if c] == [
            ("local_shell", {"command": ["ls"]}),
            ("shell", {"commands": ["ls"]}),
            ("apply_patch", {"operation": {"type": "delete_file", "path": "a"}}),
        ]
        assert [m.text() for m in chat.messages if m.role == "tool"] == [
            "a",
            '[{"stdout":"a","stderr":""}]',
            "",
        ]

    LATER: ClassVar = {
        "type": "function",
        "name": "later",
        "parameters": {},
        "defer_loading": True,
    }
    SEARCH: ClassVar = {
        "type": "tool_search",
        "execution": "client",
        "description": "d",
        "parameters": {},
    }
    SEARCHED: ClassVar = [
        {
            "type": "tool_search_call",
            "call_id": "call_1",
            "execution": "client",
            "arguments": {"query": "x"},
        },
        {"type": "tool_search_output", "call_id": "call_1", "tools": [LATER]},
    ]

    def test_tools_that_a_search_has_found_are_given(self):
        tools = [self.SEARCH, self.LATER]
        before = read({"input": [user()], "tools": tools})
        after = read({"input": [user(), *self.SEARCHED], "tools": tools})
        assert [t.function.name for t in before.tools or () if t.function] == ["tool_search"]
        assert [t.function.name for t in after.tools or () if t.function] == [
            "tool_search",
            "later",
        ]

    def test_deferred_tools_that_come_as_an_item_wait_until_they_are_found(self):
        tools = [self.SEARCH, self.LATER]
        added = {"type": "additional_tools", "role": "developer", "tools": tools}
        names = [
            [tool.function.name for tool in chat.tools or () if tool.function]
            for chat in (
                read({"input": [added, user()]}),
                read({"input": [added, user(), *self.SEARCHED]}),
                read({"input": [user(), *self.SEARCHED, added]}),
            )
        ]
        assert names == [["tool_search"], ["tool_search", "later"], ["tool_search", "later"]]

    def test_items_of_tools_that_ran_at_openai_are_named(self):
        items = [
            user(),
            {"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}},
            {"type": "mcp_call", "id": "m_1", "name": "f", "arguments": "{}", "output": "found"},
            {"type": "from_the_future", "content": {"a": 1}},
        ]
        chat = read({"input": items})
        assert [m.text() for m in chat.messages] == ["Hi", "found"]
        assert chat.dropped == [
            "input[].web_search_call",
            "input[].mcp_call",
            "input[].from_the_future",
        ]

    def test_a_configuration_update_counts(self):
        update = {"type": "configuration_update", "reasoning": {"effort": "low"}}
        chat = read({"input": [user(), update], "reasoning": {"effort": "high"}})
        assert chat.reasoning_effort == "low"

    def test_a_summary_of_the_gateways_is_told_another_ones_is_not(self):
        ours = {"type": "compaction", "encrypted_content": mark("s", "Ada asked.")}
        theirs = {"type": "compaction", "encrypted_content": "gAAAA"}
        assert "Ada asked." in read({"input": [ours]}).messages[0].text()
        chat = read({"input": [theirs]})
        assert "cannot be read" in chat.messages[0].text()
        assert chat.dropped == ["input[].compaction"]

    @pytest.mark.parametrize("path", ["", COMPACT])
    def test_a_compaction_asks_without_tools(self, path):
        trigger = [] if path else [{"type": "compaction_trigger"}]
        tools = [{"type": "function", "name": "f", "parameters": {}}]
        chat = read({"input": [user(), *trigger], "tools": tools}, path)
        assert chat.tools is None and chat.messages[-1].text().startswith("Sum up")

    def test_a_compaction_is_a_text_whatever_the_answers_are_to_be(self):
        body = {
            "input": [user(), {"type": "compaction_trigger"}],
            "tools": [{"type": "function", "name": "f", "parameters": {}}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_object"}},
        }
        chat = read(body)
        assert chat.tools is None and chat.tool_choice is None and chat.response_format is None

    def test_a_compaction_that_is_over_is_not_asked_for_again(self):
        items = [user(), {"type": "compaction_trigger"}, user("Go on")]
        assert [m.text() for m in read({"input": items}).messages] == ["Hi", "Go on"]


# --- kept answers --------------------------------------------------------------------------------


def kept(n: int, parent: int | None, items: list[Any], answered: list[Any]) -> tuple[str, Kept]:
    from msgspec import Raw

    def raws(values: list[Any]) -> list[Raw]:
        return [Raw(json.dumps(value).encode()) for value in values]

    id = response_id(f"{n:032x}")
    before = None if parent is None else response_id(f"{parent:032x}")
    return id, Kept(id, before, raws(items), raws(answered), Raw(b"{}"))


class TestKept:
    SAID = {"type": "message", "role": "assistant", "content": "Hello."}
    TURNS = dict([kept(1, None, [user()], [SAID]), kept(2, 1, [user("And?")], [call("f")])])

    def test_a_chain_stands_before_the_input(self):
        body = {"input": [output()], "previous_response_id": response_id(f"{2:032x}")}
        chat = read(body, kept=self.TURNS)
        assert [m.text() for m in chat.messages] == ["Hi", "Hello.", "And?", "", "done"]

    def test_instructions_are_not_inherited(self):
        body = {"instructions": "X", "previous_response_id": response_id(f"{1:032x}")}
        chat = read(body | {"input": "Go"}, kept=self.TURNS)
        assert roles(chat) == ["system", "user", "assistant", "user"]

    def test_an_unknown_one_is_refused(self):
        error = refused({"input": "Hi", "previous_response_id": "resp_1"})
        assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")

    def test_an_item_is_found_by_its_id(self):
        reference = {"type": "item_reference", "id": item_id("msg", f"{1:032x}", 0)}
        chat = read({"input": [user(), reference, user("X")]}, kept=self.TURNS)
        assert [m.text() for m in chat.messages] == ["Hi", "Hello.", "X"]

    def test_what_a_reference_stands_for_is_kept_with_the_turn(self):
        reference = {"type": "item_reference", "id": item_id("msg", f"{1:032x}", 0)}
        asked = asked_of({"model": "m", "input": [user(), reference]})
        asked.kept = self.TURNS
        assert FRONT.read is not None
        FRONT.read(asked)
        assert [json.loads(bytes(raw)) for raw in asked.options.input] == [user(), self.SAID]

    def test_a_path_counts_the_items_that_the_caller_has_sent(self):
        body = {"input": [output("call_9")], "previous_response_id": response_id(f"{1:032x}")}
        with pytest.raises(GatewayError) as caught:
            read(body, kept=self.TURNS)
        assert caught.value.param == "input[0].call_id"


# --- members -------------------------------------------------------------------------------------


class TestMembers:
    @pytest.mark.parametrize("name", ["conversation", "prompt", "moderation", "background"])
    def test_what_lives_at_openai_is_refused(self, name):
        error = refused({"input": "Hi", name: {"id": "x"}})
        assert (error.param, error.code) == (name, "unsupported_parameter")
        assert read({"input": "Hi", name: None}).dropped == []

    @pytest.mark.parametrize(
        "given",
        [
            None,
            "",
            [],
            [{"role": "user", "content": ""}],
            [{"role": "user", "content": []}],
            [{"type": "reasoning", "summary": []}],
        ],
    )
    def test_an_input_is_needed(self, given):
        assert refused({"input": given}).param == "input"

    def test_a_model_is_needed(self):
        with pytest.raises(GatewayError) as caught:
            asked_of({"input": "Hi"})
        assert (caught.value.param, caught.value.code) == ("model", "missing_required_parameter")

    @pytest.mark.parametrize(
        "body",
        [
            {"client_metadata": {"a": 1}},
            {"prompt_cache_retention": "24h"},
            {"truncation": "disabled"},
            {"service_tier": "auto"},
            {"reasoning": {"mode": "standard", "context": "all_turns"}},
            {"include": ["reasoning.encrypted_content"]},
            {"safety_identifier": "x", "user": "y", "max_tool_calls": 3},
        ],
    )
    def test_what_has_no_effect_is_not_worth_a_word(self, body):
        assert read({"input": "Hi"} | body).dropped == []

    @pytest.mark.parametrize(
        ("body", "name"),
        [
            ({"truncation": "auto"}, "truncation"),
            ({"service_tier": "flex"}, "service_tier"),
            ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
            ({"include": ["file_search_call.results"]}, "include.file_search_call.results"),
            ({"context_management": []}, "context_management"),
            ({"from_the_future": 1}, "from_the_future"),
            ({"tools": [{"type": "image_generation"}, {"type": "function", "name": "f"}]}, None),
        ],
    )
    def test_what_is_left_out_is_named_once(self, body, name):
        assert read({"input": "Hi"} | body).dropped == [name or "tools.image_generation"]

    @pytest.mark.parametrize("provider", [claude.PROVIDER, gemini.PROVIDER])
    def test_how_wordy_an_answer_is_to_be_is_named_where_it_has_no_word(self, provider):
        assert named(provider, {"text": {"verbosity": "low"}}) == ["text.verbosity"]

    @pytest.mark.parametrize("provider", [openai.PROVIDER, claude.PROVIDER, gemini.PROVIDER])
    def test_a_cache_key_is_not_worth_a_word(self, provider):
        assert named(provider, {"prompt_cache_key": "thread-1"}) == []

    @pytest.mark.parametrize(
        ("provider", "model", "effort", "told"),
        [
            (
                claude.PROVIDER,
                "claude-opus-4-8",
                "high",
                {"thinking": {"type": "adaptive", "display": "summarized"}},
            ),
            (claude.PROVIDER, "claude-opus-4-8", "none", {}),
            (
                gemini.PROVIDER,
                "gemini-2.5-flash",
                "low",
                {"thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True}},
            ),
            (
                gemini.PROVIDER,
                "gemini-2.5-flash",
                "none",
                {"thinkingConfig": {"thinkingBudget": 0}},
            ),
        ],
    )
    def test_thoughts_are_asked_for_with_the_effort(self, provider, model, effort, told):
        asked = asked_of({"model": "m", "input": "Hi", "reasoning": {"effort": effort}})
        assert FRONT.read is not None
        call = replace(call_of(provider, FRONT.read(asked), asked), model=model)
        body = json.loads(provider.request(call).body)  # type: ignore[arg-type]
        said = body | body.get("generationConfig", {})
        members = ("thinking", "thinkingConfig")
        assert {name: said[name] for name in members if name in said} == told

    def test_settings(self):
        chat = read(
            {
                "input": "Hi",
                "max_output_tokens": 5,
                "temperature": 0.5,
                "reasoning": {"effort": "low"},
                "top_logprobs": 3,
                "parallel_tool_calls": False,
                "tools": [{"type": "function", "name": "f", "parameters": None}],
                "tool_choice": {"type": "function", "name": "f"},
                "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}},
            }
        )
        assert (chat.max_completion_tokens, chat.temperature) == (5, 0.5)
        assert (chat.reasoning_effort, chat.logprobs, chat.top_logprobs) == ("low", True, 3)
        assert chat.parallel_tool_calls is False
        assert chat.tool_choice == {"type": "function", "function": {"name": "f"}}
        assert chat.response_format is not None
        assert json.loads(bytes(chat.response_format["json_schema"]))["name"] == "x"

    @pytest.mark.parametrize(
        ("tools", "param"),
        [
            ([{"type": "file_search"}], "tools[0]"),
            ([{"type": "computer_use_preview"}], "tools[0]"),
            ([{"type": "mcp", "server_label": "x"}], "tools[0]"),
            ([{"type": "shell", "environment": {"type": "container_auto"}}], "tools[0]"),
            ([{"type": "image_generation"}], "tools[0]"),
            ([{"type": "a tool of a name that is longer than all others"}], "tools[0]"),
            ([{"type": "function", "name": "f"}, {"type": "custom", "name": "f"}], "tools[1].name"),
            ([{"type": "function"}], "tools[0].name"),
        ],
    )
    def test_tools_that_nobody_could_run_are_refused(self, tools, param):
        assert refused({"input": "Hi", "tools": tools}).param == param

    @pytest.mark.parametrize(
        "choice", ["any", {"type": "function", "name": "g"}, {"type": "web_search"}]
    )
    def test_a_choice_of_what_is_not_there_is_refused(self, choice):
        tools = [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}]
        error = refused({"input": "Hi", "tools": tools, "tool_choice": choice})
        assert error.param == "tool_choice"

    def test_a_search_that_may_not_be_called_is_not_told(self):
        asked = {"input": "Hi", "tools": [{"type": "web_search"}], "tool_choice": "none"}
        assert read(asked).server_tools == []

    def test_allowed_tools_are_told(self):
        tools = [{"type": "function", "name": name, "parameters": {}} for name in "fgh"]
        allowed = {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "g"}],
        }
        asked = asked_of({"model": "m", "input": "Hi", "tools": tools, "tool_choice": allowed})
        assert FRONT.read is not None
        told = sent(claude.PROVIDER, FRONT.read(asked), asked)
        assert [tool["name"] for tool in told["tools"]] == ["g"]
