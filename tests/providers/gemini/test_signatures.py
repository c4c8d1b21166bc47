"""Thought signatures: sent back, remembered, replaced by the placeholder."""

import json
from typing import Any

import pytest

from providers.gemini.models import Model
from providers.gemini.request import to_generate_content
from providers.gemini.signatures import PLACEHOLDER, Signatures
from tests.providers.gemini.bodies import assistant, chat, tool
from tests.providers.gemini.calls import RECORDED, make_call, sent


def with_signature(signature: Any, **more: Any) -> dict[str, Any]:
    message = assistant(("call_1", "f", "{}"), ("call_2", "f", "{}"))
    message["tool_calls"][0]["extra_content"] = signature
    return chat({"role": "user", "content": "Hi"}, message, tool("call_1", "x"), **more)


def signatures_in(out: Any) -> list[Any]:
    return [part.get("thoughtSignature") for part in out["contents"][1]["parts"]]


def test_a_signature_the_client_kept_goes_back() -> None:
    kept = {"google": {"thought_signature": "c2ln"}}
    assert signatures_in(sent(with_signature(kept))) == ["c2ln", None]


@pytest.mark.parametrize("extra", [None, {}, {"google": 1}, {"google": {"thought_signature": 5}}])
def test_gemini_3_gets_the_placeholder_on_the_first_call_only(extra: Any) -> None:
    assert signatures_in(sent(with_signature(extra, model="gemini-3-pro-preview"))) == [
        PLACEHOLDER,
        None,
    ]
    assert signatures_in(sent(with_signature(extra, model="gemini-2.5-pro"))) == [None, None]


def test_a_signature_the_client_lost_is_remembered_by_the_calls_id() -> None:
    from providers.gemini.answer import AnswerDecoder

    signatures = Signatures()
    decoder = AnswerDecoder(model="m", new_id=lambda: "0" * 32, signatures=signatures)
    decoder.feed((RECORDED / "array-tool-call-gemini3.json").read_bytes())
    message = assistant(("call_" + "0" * 24, "multiply", '{"x":5,"y":3}'))
    call = make_call(chat({"role": "user", "content": "5 times 3?"}, message))
    model = Model("gemini-3-flash-preview", "v1beta")
    body, _ = to_generate_content(call.chat, model, {}, signatures)
    recorded = json.loads((RECORDED / "array-tool-call-gemini3.json").read_bytes())
    part = recorded[0]["candidates"][0]["content"]["parts"][0]
    assert signatures_in(json.loads(body)) == [part["thoughtSignature"]]


def test_remembered_signatures_are_bounded_in_number_and_size() -> None:
    signatures = Signatures(max_entries=3, max_chars=100)
    for i in range(5):
        signatures.remember(f"c{i}", "f", "x")
    assert [signatures.recall(f"c{i}", "f") for i in range(5)] == [None, None, "x", "x", "x"]
    signatures.recall("c2", "f")  # used: forgotten last
    signatures.remember("c5", "f", "x")
    assert signatures.recall("c2", "f") == "x"
    assert signatures.recall("c2", "another") is None
    signatures.remember("big", "f", "x" * 99)
    assert len(signatures) == 2
    signatures.remember("huge", "f", "x" * 101)
    assert len(signatures) == 0
