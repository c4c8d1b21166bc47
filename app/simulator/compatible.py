"""Hosts of OpenAI's chat wire, under /compatible/NAME/v1: chat, models, embeddings.

NAME is a row of compatible_hosts.py. The address of a deployment is
/compatible/azure-deployments/openai/deployments/MODEL, with ?api-version=.
Any key will do but an empty one and one with "bad" or "expired" in it; local servers want none.
Models named `missing-...` do not exist. A model thinks if its name or the request says so
(compatible_rules.py).
"""

from typing import Any, NamedTuple

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery
from app.simulator.compatible_answer import HostAnswer
from app.simulator.compatible_errors import failures, refused
from app.simulator.compatible_hosts import HOSTS, JSON, Host, Refused
from app.simulator.compatible_rules import first_refusal
from app.simulator.delivery import send_body, send_events
from app.simulator.embeddings import embedding_list
from app.simulator.faults import Fault
from app.simulator.ledger import record_of
from app.simulator.openai_chat import KNOWN, find_problem
from app.simulator.openai_common import read_json
from app.simulator.recordings import send_recording
from app.simulator.request_body import model_in
from app.simulator.routing import READS, route

FAMILY = "compatible"
RECORDINGS = "openai-compatible"
DIMENSIONS = 1024
DEPLOYMENTS = "azure-deployments"

blueprint = Blueprint(FAMILY, url_prefix=f"/{FAMILY}")


class Checked(NamedTuple):
    """The host that is asked and the fault; `refused` is the answer when it stops there."""

    host: Host
    fault: Fault
    refused: HTTPResponse | None


@blueprint.post("/<name>/v1/chat/completions")
async def chat_completions(request: Request, name: str) -> HTTPResponse | None:
    """POST .../chat/completions, streamed or whole."""
    body, unreadable = read_json(request)
    return unreadable or await _chat(request, name, body)


@blueprint.post(f"/{DEPLOYMENTS}/openai/deployments/<deployment>/chat/completions")
async def deployed_chat(request: Request, deployment: str) -> HTTPResponse | None:
    """The same of a deployment: the model stands in the path, that of the body means nothing."""
    body, unreadable = read_json(request)
    if unreadable or not isinstance(body, dict):
        return unreadable or refused(HOSTS[DEPLOYMENTS], Refused(400, "Invalid body."))
    if not request.args.get("api-version"):
        return refused(HOSTS[DEPLOYMENTS], Refused(404, "Resource not found", code="404"))
    return await _chat(request, DEPLOYMENTS, {**body, "model": deployment})


async def _chat(request: Request, name: str, body: Any) -> HTTPResponse | None:
    model = model_in(body)
    host, fault, stopped = await _check(request, name, model)
    if stopped:
        return stopped
    if wrong := _problem(host, body):
        return wrong
    failing = failures(host, model)
    if fault.replay:
        return await send_recording(
            request,
            fault,
            RECORDINGS,
            failing,
            lambda message: refused(host, Refused(404, message)),
            prefer_stream=bool(body.get("stream")),
        )
    made = HostAnswer(host, body, fault)
    if body.get("stream"):
        return await send_events(request, fault, made.events(), failing, headers=host.headers)
    return await send_body(request, fault, made.whole(), failing, headers=host.headers)


def _problem(host: Host, body: Any) -> HTTPResponse | None:
    """What is wrong with the request: for everyone, then for this host."""
    known = body
    if isinstance(body, dict):
        known = {name: value for name, value in body.items() if name in KNOWN}
    if found := find_problem(known):
        said = Refused(400, found.message, "invalid_request_error", found.code)
        return refused(host, said, param=found.param)
    if finding := first_refusal(host, body):
        return refused(host, finding.said, finding.about, finding.param)
    return None


@route(blueprint, "/<name>/v1/models", *READS)
async def models(request: Request, name: str) -> HTTPResponse | None:
    """GET .../models, in the host's own shape."""
    host, fault, stopped = await _check(request, name)
    if stopped:
        return stopped
    listed = model_list(host)
    if listed is None:
        return refused(host, Refused(404, "Resource not found"))
    body = msgspec.json.encode(listed)
    return await send_body(request, fault, body, failures(host, ""), headers=host.headers)


def model_list(host: Host) -> JSON | list[JSON] | None:
    """The host's list of models; None where it has none."""
    entries: list[JSON] = []
    for model in host.models:
        entry: JSON = {"id": model, "object": "model", "created": 1764460800, "owned_by": "system"}
        if host.models_shape == "openrouter":
            entry = {"id": model, "name": model, "created": 1747930371}
        entries.append(entry | host.model_members)
    match host.models_shape:
        case "none":
            return None
        case "array":
            return entries
        case "openrouter":
            return {"data": entries}
        case "both":
            named = [{"name": model, "model": model} for model in host.models]
            return {"models": named, "object": "list", "data": entries}
        case _:
            return {"object": "list", "data": entries}


@blueprint.post("/<name>/v1/embeddings")
async def embeddings(request: Request, name: str) -> HTTPResponse | None:
    """POST .../embeddings, as floats or base64, where the host has them."""
    body, unreadable = read_json(request)
    return unreadable or await _embed(request, name, body)


@blueprint.post(f"/{DEPLOYMENTS}/openai/deployments/<deployment>/embeddings")
async def deployed_embeddings(request: Request, deployment: str) -> HTTPResponse | None:
    """The same of a deployment."""
    body, unreadable = read_json(request)
    if unreadable or not isinstance(body, dict):
        return unreadable or refused(HOSTS[DEPLOYMENTS], Refused(400, "Invalid body."))
    return await _embed(request, DEPLOYMENTS, {**body, "model": deployment})


async def _embed(request: Request, name: str, body: Any) -> HTTPResponse | None:
    model = model_in(body)
    host, fault, stopped = await _check(request, name, model)
    if stopped:
        return stopped
    if not host.embedding:
        return refused(host, Refused(404, "Not Found"))
    asked = body.get("input") if isinstance(body, dict) else None
    if not model or not asked:
        return refused(host, Refused(400, "model and input are required", "invalid_request_error"))
    size = body.get("dimensions") or DIMENSIONS
    listed = embedding_list(model, asked, size, body.get("encoding_format") or "float")
    data = msgspec.json.encode(listed)
    return await send_body(request, fault, data, failures(host, model), headers=host.headers)


async def _check(request: Request, name: str, model: str = "") -> Checked:
    """Picks the fault, and checks the host, the credential and the model."""
    fault = request.app.ctx.faults.pick(request, model)
    host = HOSTS.get(name)
    if host is None:
        known = f"The simulator has no host {name!r}; there are {', '.join(HOSTS)}."
        return Checked(Host(), fault, refused(Host(), Refused(404, known)))
    key = record_of(request).key
    is_elsewhere = (host.key == "api-key") != ("api-key" in request.headers)
    wrong = not key or is_elsewhere or "bad" in key or "expired" in key
    if not fault.name and host.key != "none" and wrong:
        return Checked(host, fault, refused(host, host.wrong_key))
    if stopped := await delivery.before_answer(request, fault, failures(host, model)):
        return Checked(host, fault, stopped)
    if model.rpartition("/")[2].startswith("missing-"):
        return Checked(host, fault, refused(host, host.no_model, model))
    return Checked(host, fault, None)
