"""The simulated OpenAI API beside chat: completions, pictures, moderations; and rerank.

OpenAI itself has no rerank; hosts that speak its wire do.
"""

import time
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator.delivery import send_events
from app.simulator.openai_chat import DONE, JSON, Problem, token
from app.simulator.openai_common import (
    FAMILY,
    answer,
    bad_request,
    check_request,
    common_headers,
    dialect,
    read_json,
)
from app.simulator.request_body import model_in

Answers = Callable[[JSON], JSON]
Events = Callable[[JSON], list[bytes]]

blueprint = Blueprint(f"{FAMILY}-endpoints", url_prefix="/openai")


def _event(value: Any) -> bytes:
    name = f"event: {value['type']}\n" if "type" in value else ""
    return f"{name}data: ".encode() + msgspec.json.encode(value) + b"\n\n"


def completion(body: JSON) -> JSON:
    """A whole text completion: it repeats the prompt."""
    text = f" You said: {body['prompt']}"
    prompt, said = len(str(body["prompt"]).split()), len(text.split())
    return {
        "id": f"cmpl-{token()}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": said,
            "total_tokens": prompt + said,
        },
    }


def completion_events(body: JSON) -> list[bytes]:
    """The same word by word; usage where it is asked for."""
    whole = completion(body)
    usage = whole.pop("usage")
    words = whole.pop("choices")[0]["text"].split(" ")[1:]
    events = []
    for word in words:
        choice = {"text": f" {word}", "index": 0, "logprobs": None, "finish_reason": None}
        events.append(_event({**whole, "choices": [choice]}))
    last = {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}
    events.append(_event({**whole, "choices": [last]}))
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append(_event({**whole, "choices": [], "usage": usage}))
    return [*events, DONE]


def _picture(prompt: str) -> str:
    return b64encode(b"\x89PNG\r\n\x1a\n" + sha256(prompt.encode()).digest()).decode()


def pictures(body: JSON) -> JSON:
    """As many pictures as asked for: bytes that depend on the prompt alone."""
    picture = {"b64_json": _picture(body["prompt"])}
    usage = {
        "input_tokens": 7,
        "output_tokens": 272,
        "total_tokens": 279,
        "input_tokens_details": {"text_tokens": 7, "image_tokens": 0},
    }
    return {"created": int(time.time()), "data": [picture] * (body.get("n") or 1), "usage": usage}


def picture_events(body: JSON) -> list[bytes]:
    """Partial pictures, then the whole one with the usage; no [DONE]."""
    whole = pictures(body)
    partial = [
        {
            "type": "image_generation.partial_image",
            "partial_image_index": index,
            **whole["data"][0],
        }
        for index in range(body.get("partial_images") or 0)
    ]
    last = {
        "type": "image_generation.completed",
        **whole["data"][0],
        "usage": whole["usage"],
    }
    return [_event(each) for each in (*partial, last)]


def moderation(body: JSON) -> JSON:
    """A text is flagged for violence if it says "kill"."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    results = []
    for text in texts:
        is_bad = "kill" in str(text)
        results.append(
            {
                "flagged": is_bad,
                "categories": {"violence": is_bad},
                "category_scores": {"violence": 0.99 if is_bad else 0.01},
                "category_applied_input_types": {"violence": ["text"]},
            }
        )
    model = body.get("model") or "omni-moderation-latest"
    return {"id": f"modr-{token()}", "model": model, "results": results}


def ranking(body: JSON) -> JSON:
    """The documents by how many words they share with the query."""
    query = set(body["query"].split())
    scored: list[JSON] = [
        {
            "index": index,
            "relevance_score": len(query & set(document.split())) / len(query),
            "document": {"text": document},
        }
        for index, document in enumerate(body["documents"])
    ]
    scored.sort(key=lambda each: each["relevance_score"], reverse=True)
    results = scored[: body.get("top_n") or None]
    return {
        "id": f"gen-rerank-{token()}",
        "model": body["model"],
        "results": results,
        "usage": {"total_tokens": 9, "search_units": 1},
    }


def _add_endpoint(
    path: str, needs: tuple[str, ...], whole: Answers, events: Events | None = None
) -> None:
    async def handle(request: Request) -> HTTPResponse | None:
        body, unreadable = read_json(request)
        fault, refused = await check_request(request, model_in(body))
        if refused or unreadable:
            return refused or unreadable
        missing = next((name for name in needs if not body.get(name)), None)
        if missing:
            said = f"Missing required parameter: '{missing}'."
            return bad_request(Problem(said, missing, None))
        if events is None or not body.get("stream"):
            return await answer(request, fault, whole(body))
        headers = common_headers()
        return await send_events(request, fault, events(body), dialect(request), headers=headers)

    blueprint.add_route(handle, path, methods=["POST"], name=path.replace("/", "_"))


_add_endpoint("/v1/completions", ("model", "prompt"), completion, completion_events)
_add_endpoint("/v1/images/generations", ("prompt",), pictures, picture_events)
_add_endpoint("/v1/moderations", ("input",), moderation)
_add_endpoint("/v1/rerank", ("model", "query", "documents"), ranking)
