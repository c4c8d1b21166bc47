"""The error bodies of the simulated hosts of OpenAI's chat wire: in each one's own shape.

Source: protocol sheet openai-compatible, section 3.
"""

import msgspec
from msgspec.structs import replace
from sanic import HTTPResponse

from app.simulator.compatible_hosts import JSON, Host, Refused
from app.simulator.delivery import Dialect, with_headers
from app.simulator.faults import Refusal
from app.simulator.openai_chat import DONE
from app.simulator.openai_common import WORDS


def refused(host: Host, said: Refused, about: str = "", param: str | None = None) -> HTTPResponse:
    """A refusal; `about` is put in where its message has %s."""
    body = msgspec.json.encode(error_object(host, said, about, param))
    response = HTTPResponse(body, said.status, content_type="application/json")
    headers = [(name, value) for name, value in host.headers if name != "retry-after"]
    return with_headers(response, headers)


def by_fault(host: Host, refusal: Refusal, model: str) -> HTTPResponse:
    """The refusal that a fault asks for, with Retry-After where it is given.

    The status of a wrong key, a spent one and an unknown model is the host's own.
    """
    own = {
        "auth": host.wrong_key,
        "quota": host.quota,
        "payment": replace(host.quota, status=402),
        "not_found": host.no_model,
    }
    type, code, message = WORDS[refusal.kind]
    said = own.get(refusal.kind) or Refused(refusal.status, message, type, code)
    response = refused(host, said, model)
    if refusal.retry_after is not None:
        response.headers.add("retry-after", refusal.retry_after)
        if host.shape == "azure":
            response.headers.add("retry-after-ms", "0")  # as recorded: the larger one is right
    return response


def error_object(host: Host, said: Refused, about: str, param: str | None) -> JSON:
    """The body of a refusal."""
    message = said.message.replace("%s", about)
    match host.shape:
        case "openrouter":
            return _openrouter(said, message)
        case "coded":
            return {"error": {"code": str(said.code or said.status), "message": message}}
        case "azure":
            code = str(said.code or said.status)
            return {"error": {"code": code, "message": message, "details": message}}
        case "xai":
            return {"code": said.code or "invalid-argument", "error": message}
        case "mistral":
            return _mistral(said, message, param)
        case "flat":
            named = param or ""
            return {"message": message, "type": said.type, "param": named, "code": said.code}
        case "vllm":
            return {
                "object": "error",
                "message": message,
                "type": said.type or "BadRequestError",
                "param": param,
                "code": said.code or said.status,
            }
        case "text":
            return {"error": message}
        case _:
            error = {"message": message, "type": said.type, "param": param, "code": said.code}
            return {"error": error}


def _openrouter(said: Refused, message: str) -> JSON:
    """What went wrong at the provider behind it stands in `metadata.raw` only."""
    error: JSON = {"message": message, "code": said.status}
    if said.status == 429 or said.status >= 500:
        metadata = {"provider_name": "Google", "raw": message}
        error |= {"message": "Provider returned error", "metadata": metadata}
    return {"error": error, "user_id": "user_SIMULATOR"}


def _mistral(said: Refused, message: str, param: str | None) -> JSON:
    if said.status == 401:
        return {"detail": "Invalid API Key"}
    text: JSON | str = message
    if said.status == 422:
        loc = ["body", *(param or "").split(".")]
        detail = {"type": said.type, "loc": loc, "msg": message, "input": None}
        text = {"detail": [detail]}
    kind = "invalid_request_error" if said.status == 422 else said.type
    return {"object": "error", "message": text, "type": kind, "param": None, "code": said.code}


def failures(host: Host, model: str) -> Dialect:
    """How this host words its failures, before an answer and inside one."""
    type, code, message = WORDS["server"]
    error: JSON = {"message": message, "type": type, "code": code}
    body = msgspec.json.encode({"error": error})
    match host.error_event:
        case "event":
            whole = msgspec.json.encode({"error": {**error, "status_code": 500}})
            event = b"event: error\ndata: " + whole + b"\n\n"
        case "chunk":
            chunk = {
                "id": "gen-broken",
                "object": "chat.completion.chunk",
                "error": {"code": 500, "message": message},
                "model": model,
                "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": None}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            event = b"data: " + msgspec.json.encode(chunk) + b"\n\n" + DONE
        case "line":
            event = b"error: " + msgspec.json.encode({"detail": message, "error": error}) + b"\n\n"
        case _:
            event = b"data: " + body + b"\n\n"
    return Dialect(
        refuse=lambda refusal: by_fault(host, refusal, model),
        error_event=event,
        error_body=body,
        bad_event=b'data: {"id":"chatcmpl-broken","choices":[{"index":0,"delta":{"cont\n\n',
    )
