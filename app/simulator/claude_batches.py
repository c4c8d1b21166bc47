"""The simulated Anthropic API's message batches; a batch has ended as soon as it is made."""

from collections import OrderedDict
from datetime import UTC, datetime, timedelta

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator.claude_common import (
    FAMILY,
    JSON,
    answer,
    answer_page,
    bad_request,
    check_request,
    common_headers,
    dialect,
    error_object,
    not_found,
    read_json,
    version_of,
)
from app.simulator.claude_messages import Message, token
from app.simulator.claude_rules import refusal_of
from app.simulator.delivery import send_body
from app.simulator.faults import Fault
from app.simulator.routing import route

blueprint = Blueprint(f"{FAMILY}-batches", url_prefix="/claude")
MAX_BATCHES = 32
batches: OrderedDict[str, tuple[JSON, list[JSON]]] = OrderedDict()


@route(blueprint, "/v1/messages/batches", "POST")
async def make_batch(request: Request) -> HTTPResponse | None:
    """Answers every request of a batch at once and keeps the results."""
    body, unreadable = read_json(request)
    fault, refused = await check_request(request)
    if refused or unreadable:
        return refused or unreadable
    asked = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(asked, list) or not asked:
        return bad_request("requests: Field required")
    results: list[JSON] = []
    for at, each in enumerate(asked):
        if not isinstance(each, dict) or not each.get("custom_id"):
            return bad_request(f"requests.{at}.custom_id: Field required")
        if problem := refusal_of(each.get("params"), version=version_of(request)):
            error = error_object("invalid_request_error", problem.message)
            result: JSON = {"type": "errored", "error": error}
        else:
            result = {"type": "succeeded", "message": Message(each["params"], Fault()).whole()}
        results.append({"custom_id": each["custom_id"], "result": result})
    batch = batch_object(request, results)
    batches[batch["id"]] = (batch, results)
    while len(batches) > MAX_BATCHES:
        batches.popitem(last=False)
    return await answer(request, fault, batch)


def batch_object(request: Request, results: list[JSON]) -> JSON:
    """Anthropic's MessageBatch."""
    identity = token("msgbatch_")
    now = datetime.now(UTC)
    good = sum(result["result"]["type"] == "succeeded" for result in results)
    return {
        "id": identity,
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": {
            "processing": 0,
            "succeeded": good,
            "errored": len(results) - good,
            "canceled": 0,
            "expired": 0,
        },
        "created_at": now.isoformat(),
        "ended_at": now.isoformat(),
        "expires_at": (now + timedelta(days=1)).isoformat(),
        "archived_at": None,
        "cancel_initiated_at": None,
        # An absolute address of the upstream, as the real one gives it.
        "results_url": f"{request.scheme}://{request.host}/claude/v1/messages/batches/{identity}/results",
    }


@route(blueprint, "/v1/messages/batches", "GET")
async def list_batches(request: Request) -> HTTPResponse | None:
    """The kept batches, newest first, paged."""
    fault, refused = await check_request(request)
    if refused:
        return refused
    return await answer_page(request, fault, [batch for batch, _ in reversed(batches.values())])


@route(blueprint, "/v1/messages/batches/<identity>", "GET", "DELETE")
async def one_batch(request: Request, identity: str) -> HTTPResponse | None:
    """Returns or deletes a batch."""
    fault, refused = await check_request(request)
    if refused or identity not in batches:
        return refused or not_found(f"message_batch: {identity}")
    if request.method == "GET":
        return await answer(request, fault, batches[identity][0])
    del batches[identity]
    return await answer(request, fault, {"id": identity, "type": "message_batch_deleted"})


@route(blueprint, "/v1/messages/batches/<identity>/cancel", "POST")
async def cancel_batch(request: Request, identity: str) -> HTTPResponse | None:
    """Returns the batch: it has ended already."""
    fault, refused = await check_request(request)
    if refused or identity not in batches:
        return refused or not_found(f"message_batch: {identity}")
    return await answer(request, fault, batches[identity][0])


@route(blueprint, "/v1/messages/batches/<identity>/results", "GET")
async def batch_results(request: Request, identity: str) -> HTTPResponse | None:
    """The results as JSON lines."""
    fault, refused = await check_request(request)
    if refused or identity not in batches:
        return refused or not_found(f"message_batch: {identity}")
    lines = b"".join(msgspec.json.encode(result) + b"\n" for result in batches[identity][1])
    return await send_body(
        request,
        fault,
        lines,
        dialect(),
        headers=common_headers(),
        content_type="application/x-jsonl",
    )
