"""The OpenAPI 3.1 document: made of the registered routes and of the structs that read bodies.

Nothing of the config is in it but the paths of its upstreams' kinds: no address, no name, no key.
"""

import re
from collections.abc import Callable
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Raw, Struct
from sanic import Sanic

from app import __version__
from app.accounting.usage import BY, CALL_FILTERS, FILTERS
from app.fronts import registry
from app.fronts.anthropic import errors as anthropic_errors
from app.fronts.anthropic import schema as anthropic
from app.fronts.gemini import errors as gemini_errors
from app.fronts.gemini import schema as gemini
from app.fronts.openai_responses import schema as responses
from app.http.routes.admin import KeyOrder
from app.pool.lease import KeyStatus
from app.wire.chat import ChatRequest
from app.wire.errors import ErrorBody

DIALECT = "https://spec.openapis.org/oas/3.1/dialect/base"
_REF = "#/components/schemas/{name}"
_LEFT_OUT = {"HEAD", "OPTIONS"}  # HEAD answers as GET does
_OBJECT: dict[str, Any] = {"type": "object"}
_TEXT: dict[str, Any] = {"type": "string"}


class Keys(Struct):
    """The keys of the config, without their secrets."""

    keys: list[KeyStatus]


class Operation(Struct, frozen=True):
    """What the document says of the routes below a path.

    `body` is the struct of the request, `query` its parameters. `answers` are media types of a 200;
    none where an upstream decides. `answer` is the struct of one in JSON.
    """

    path: str  # a prefix, of whole segments
    tag: str
    summary: str
    body: type[Struct] | None = None
    query: tuple[str, ...] = ()
    answers: tuple[str, ...] = ("application/json",)
    answer: type[Struct] | None = None
    methods: tuple[str, ...] = ()  # none: all that are registered


_STREAMED = ("application/json", "text/event-stream")
_CSV = ("application/json", "text/csv")
_CHAT, _ENDPOINTS, _MODELS = "Chat", "Embeddings, pictures, sound", "Models and usage"
_PROXY, _WEB, _ELSEWHERE = "Reverse proxies", "Web providers", "Not here"
_OPERATORS, _HEALTH, _SOCKETS = "Operators", "Health and help", "Websockets"
TAGS = (
    _CHAT,
    _MODELS,
    _ENDPOINTS,
    _PROXY,
    _WEB,
    _SOCKETS,
    _OPERATORS,
    _HEALTH,
    _ELSEWHERE,
)
_EMPTY: tuple[str, ...] = ()
# The first one that fits says it.
OPERATIONS = (
    Operation(
        "/c/v1/chat/completions",
        _CHAT,
        "OpenAI's chat, by any upstream",
        ChatRequest,
        answers=_STREAMED,
    ),
    Operation(
        "/c/v1/responses/input_tokens",
        _CHAT,
        "Count the tokens of a Responses body",
        responses.Body,
    ),
    Operation("/c/v1/responses/compact", _CHAT, "A conversation as one item", responses.Body),
    Operation(
        "/c/v1/responses/{id}/input_items",
        _CHAT,
        "What was asked",
        query=("limit", "order", "after"),
    ),
    Operation("/c/v1/responses/{id}/cancel", _CHAT, "Cancel an answer that runs at OpenAI"),
    Operation("/c/v1/responses/{id}", _CHAT, "A kept answer", answers=_STREAMED),
    Operation(
        "/c/v1/responses", _SOCKETS, "Responses over a websocket", answers=_EMPTY, methods=("GET",)
    ),
    Operation(
        "/c/v1/responses",
        _CHAT,
        "OpenAI's Responses, by any upstream",
        responses.Body,
        answers=_STREAMED,
    ),
    Operation(
        "/c/v1/messages/count_tokens", _CHAT, "Count the tokens of a Messages body", anthropic.Body
    ),
    Operation(
        "/c/v1/messages/batches", _ELSEWHERE, "Names the path of the reverse proxy", answers=_EMPTY
    ),
    Operation(
        "/c/v1/messages",
        _CHAT,
        "Anthropic's Messages, by any upstream",
        anthropic.Body,
        answers=_STREAMED,
    ),
    Operation(
        "/claude/api/openai",
        _CHAT,
        "Anthropic's Messages in, OpenAI's chat out",
        anthropic.Body,
        answers=_STREAMED,
    ),
    Operation(
        "/gemini/openai",
        _CHAT,
        "Gemini's request with `model` in, OpenAI's chat out",
        gemini.Body,
        answers=_STREAMED,
    ),
    Operation("/c/v1/models", _MODELS, "The models of all upstreams", methods=("GET",)),
    Operation("/c/v1beta/models", _MODELS, "The models as Google lists them", methods=("GET",)),
    Operation("/c/v1alpha/models", _MODELS, "The models as Google lists them", methods=("GET",)),
    Operation(
        "/c/v1/models",
        _CHAT,
        "Gemini's `MODEL:METHOD`, by any upstream",
        gemini.Body,
        answers=_STREAMED,
    ),
    Operation(
        "/c/v1beta/models",
        _CHAT,
        "Gemini's `MODEL:METHOD`, by any upstream",
        gemini.Body,
        answers=_STREAMED,
        methods=("POST",),
    ),
    Operation(
        "/c/v1alpha/models",
        _CHAT,
        "Gemini's `MODEL:METHOD`, by any upstream",
        gemini.Body,
        answers=_STREAMED,
        methods=("POST",),
    ),
    Operation("/c/v1beta", _ELSEWHERE, "Names the path of the reverse proxy", answers=_EMPTY),
    Operation("/c/v1alpha", _ELSEWHERE, "Names the path of the reverse proxy", answers=_EMPTY),
    Operation("/c/upload", _ELSEWHERE, "Names the path of the reverse proxy", answers=_EMPTY),
    Operation(
        "/c/v1/usage",
        _MODELS,
        "The caller's own calls, tokens and cost",
        query=("by", "format", "since", "until"),
        answers=_CSV,
    ),
    Operation("/c/v1/realtime", _SOCKETS, "OpenAI's Realtime", answers=_EMPTY),
    Operation("/c/ws", _SOCKETS, "Gemini Live", answers=_EMPTY),
    Operation("/c//ws", _SOCKETS, "Gemini Live, as Google's package writes it", answers=_EMPTY),
    Operation("/c/v1/embeddings", _ENDPOINTS, "Vectors of texts"),
    Operation("/c/v1/images/generations", _ENDPOINTS, "Pictures of a text", answers=_EMPTY),
    Operation("/c/v1/moderations", _ENDPOINTS, "Whether a text is harmful"),
    Operation("/c/v1/rerank", _ENDPOINTS, "Texts in the order of a question"),
    Operation("/c/v1/completions", _ENDPOINTS, "OpenAI's text completion", answers=_STREAMED),
    Operation("/c/v1/audio", _ENDPOINTS, "Sound from text, text from sound", answers=_EMPTY),
    Operation("/c/api/hello", _HEALTH, "What Claude Code asks first", answers=_EMPTY),
    Operation("/c/v1", _ELSEWHERE, "Names the path of the reverse proxy", answers=_EMPTY),
    Operation("/c", _HEALTH, "What Claude Code asks first", answers=_EMPTY),
    Operation(
        "/v1/messages", _ELSEWHERE, "Names the base URL of Anthropic's clients", answers=_EMPTY
    ),
    Operation("/v1beta", _ELSEWHERE, "Names the base URL of Google's clients", answers=_EMPTY),
    Operation("/v1alpha", _ELSEWHERE, "Names the base URL of Google's clients", answers=_EMPTY),
    Operation("/v1", _PROXY, "OpenAI's API", answers=_EMPTY),
    Operation("/dashboard", _PROXY, "OpenAI's API", answers=_EMPTY),
    Operation("/upstreams", _PROXY, "An entry of `upstreams`, by its name", answers=_EMPTY),
    Operation("/claude/api", _PROXY, "Anthropic's API", answers=_EMPTY),
    Operation("/claude/web", _PROXY, "claude.ai, with a web session", answers=_EMPTY),
    Operation("/gemini", _PROXY, "The Gemini API", answers=_EMPTY),
    Operation(
        "/backend-api/web2api",
        _WEB,
        "ChatGPT web's request in, OpenAI's chat out",
        answers=_STREAMED,
    ),
    Operation("/backend-anon/web2api", _WEB, "The same without an account", answers=_STREAMED),
    Operation(
        "/backend-api/conversation",
        _WEB,
        "ChatGPT web's own conversation",
        answers=_EMPTY,
        methods=("POST",),
    ),
    Operation("/backend-anon/conversation", _WEB, "The same without an account", answers=_EMPTY),
    Operation("/backend-api", _PROXY, "chatgpt.com, with a web session", answers=_EMPTY),
    Operation("/public-api", _PROXY, "chatgpt.com, with a web session", answers=_EMPTY),
    Operation("/gptimage", _WEB, "A picture that ChatGPT made, by its link", answers=_EMPTY),
    Operation("/bing/message", _WEB, "OpenAI's chat, by Bing", ChatRequest, answers=_STREAMED),
    Operation("/bing", _WEB, "Conversations of Bing", answers=_EMPTY),
    Operation("/auth/token/web", _ELSEWHERE, "Says how to get a session instead", answers=_EMPTY),
    Operation("/auth", _WEB, "The caller's own tokens of OpenAI's platform", answers=_EMPTY),
    Operation("/arkose", _ELSEWHERE, "No Arkose tokens are made here", answers=_EMPTY),
    Operation("/admin/reload", _OPERATORS, "Apply a changed config"),
    Operation("/admin/keys", _OPERATORS, "The keys and their state", answer=Keys, methods=("GET",)),
    Operation("/admin/keys", _OPERATORS, "Reset, disable, enable or test a key", KeyOrder),
    Operation("/admin/state", _OPERATORS, "Workers, keys, open calls, last errors"),
    Operation("/admin/requests", _OPERATORS, "The attempts of one call"),
    Operation(
        "/admin/usage",
        _OPERATORS,
        "Sums of calls, tokens and cost",
        query=("by", "format", "since", "until", *FILTERS),
        answers=_CSV,
    ),
    Operation(
        "/admin/calls",
        _OPERATORS,
        "Single calls",
        query=("before", "limit", "format", "since", "until", *CALL_FILTERS),
        answers=_CSV,
    ),
    Operation("/admin/session", _OPERATORS, "Who is signed in to the console", methods=("GET",)),
    Operation("/admin/session", _OPERATORS, "Sign in and out", answers=_EMPTY),
    Operation("/admin/events", _OPERATORS, "Live figures", answers=("text/event-stream",)),
    Operation("/admin/series", _OPERATORS, "Figures over time, for plots"),
    Operation("/admin/config", _OPERATORS, "The effective config, without secrets"),
    Operation(
        "/admin/playground", _OPERATORS, "The paths below /c/, for operators", answers=_EMPTY
    ),
    Operation(
        "/admin/tokens", _OPERATORS, "The access tokens, without their values", methods=("GET",)
    ),
    Operation("/admin/tokens", _OPERATORS, "Add, disable, enable or remove a token"),
    Operation("/admin", _OPERATORS, "The console", answers=_EMPTY),
    Operation("/metrics", _OPERATORS, "Metrics for Prometheus", answers=("text/plain",)),
    Operation("/ping", _HEALTH, "Whether it answers"),
    Operation("/healthz", _HEALTH, "Whether this worker is alive"),
    Operation("/readyz", _HEALTH, "Whether new calls are taken"),
    Operation("/openapi.json", _HEALTH, "This document"),
    Operation("/docs", _HEALTH, "This document, to read and to try", answers=_EMPTY),
    Operation("/", _HEALTH, "The base URL for each client"),
)

_CHOICES = {"by": [*BY], "format": ["json", "csv"], "order": ["asc", "desc"]}
_NUMBERS = {"limit": 1, "before": 0, "status": 0}
_ERRORS: dict[Callable[..., bytes], str] = {
    anthropic_errors.error_body: "AnthropicError",
    anthropic_errors.forward_error_body: "AnthropicError",
    gemini_errors.error_body: "GoogleError",
    gemini_errors.forward_error_body: "GoogleError",
}
_ERROR_SCHEMAS: dict[str, dict[str, Any]] = {
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": _TEXT, "message": _TEXT},
            },
            "request_id": {"type": ["string", "null"]},
        },
    },
    "GoogleError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "status"],
                "properties": {
                    "code": {"type": "integer"},
                    "message": _TEXT,
                    "status": _TEXT,
                    "details": {"type": "array", "items": _OBJECT},
                },
            }
        },
    },
}
# Whose names stand before those of the structs in the document.
_WIRES = (
    ("Anthropic", anthropic.__name__),
    ("Gemini", gemini.__name__),
    ("Responses", responses.__name__),
)


def document(app: Sanic[Any, Any]) -> bytes:
    """The document as JSON. Takes a tenth of a second: not for the event loop."""
    twins: dict[type[Struct], Any] = {}
    structs = {each.body for each in OPERATIONS} | {each.answer for each in OPERATIONS}
    made = {each: twin(each, twins) for each in (*structs, ErrorBody) if each is not None}
    refs, schemas = msgspec.json.schema_components(made.values(), ref_template=_REF)
    of_struct = dict(zip(made, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in app.router.routes:
        path = template(route)
        for method in sorted(set(route.methods) - _LEFT_OUT):
            said = operation_of(path, method)
            paths.setdefault(path, {})[method.lower()] = _operation(path, method, said, of_struct)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "jsonSchemaDialect": DIALECT,
            "info": {
                "title": "any-proxy",
                "version": __version__,
                "summary": "One gateway to every AI chat",
                "description": "Any of four APIs before any upstream. Programs on the gateway's "
                "machine need no credential; others send an access token in place of an API key.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": tag} for tag in TAGS],
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": dict(sorted((schemas | _ERROR_SCHEMAS).items())),
                "securitySchemes": {
                    "bearer": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "An access token, a key of the upstream, or `pool`.",
                    },
                    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                    "x-goog-api-key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
                    "operator": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "`admin.token` of the config.",
                    },
                },
            },
        }
    )


def template(route: Any) -> str:
    """The path of a route with its parameters in braces."""
    return "/" + re.sub(r"<(?:__)?(\w+)(?::[^>]*)?>", r"{\1}", route.path)


def operation_of(path: str, method: str) -> Operation:
    """The first row that fits. Raises LookupError for a route that nobody has described."""
    for each in OPERATIONS:
        begins = path.startswith(each.path.rstrip("/") + "/") and each.path != "/"
        if (path == each.path or begins) and (not each.methods or method in each.methods):
            return each
    raise LookupError(f"no row of OPERATIONS describes {method} {path}")


def _operation(
    path: str, method: str, said: Operation, of_struct: dict[type[Struct], dict[str, Any]]
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "tags": [said.tag],
        "summary": said.summary,
        "operationId": method.lower() + re.sub(r"\W", "_", path).rstrip("_"),
        "responses": _answers(path, said, of_struct),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in re.findall(r"{(\w+)}", path)
    ]
    parameters += [{"name": name, "in": "query", "schema": _value(name)} for name in said.query]
    if parameters:
        told["parameters"] = parameters
    if method in ("POST", "PUT", "PATCH"):
        schema = of_struct[said.body] if said.body is not None else {}
        media = "application/json" if said.body is not None or said.answers else "*/*"
        if path.startswith("/c/v1/audio/t"):
            media, schema = "multipart/form-data", _OBJECT
        told["requestBody"] = {
            "required": said.body is not None,
            "content": {media: {"schema": schema}},
        }
    if said.tag == _OPERATORS:
        told["security"] = [{}, {"operator": []}]
    elif said.tag != _HEALTH:
        told["security"] = [{}, {"bearer": []}, {"x-api-key": []}, {"x-goog-api-key": []}]
    return told


def _value(name: str) -> dict[str, Any]:
    if name in _CHOICES:
        return {"type": "string", "enum": _CHOICES[name]}
    if name in _NUMBERS:
        return {"type": "integer", "minimum": _NUMBERS[name]}
    return _TEXT


def _answers(
    path: str, said: Operation, of_struct: dict[type[Struct], dict[str, Any]]
) -> dict[str, Any]:
    if not said.answers:
        return {"default": {"description": "What the upstream says, or an error of the gateway"}}
    whole = _OBJECT if said.answer is None else of_struct[said.answer]
    content = {
        media: {}
        if media == "text/event-stream"
        else {"schema": whole if media == "application/json" else _TEXT}
        for media in said.answers
    }
    name = _ERRORS.get(registry.error_body_of(path), "ErrorBody")
    return {
        "200": {"description": "The answer", "content": content},
        "default": {
            "description": "An error",
            "content": {"application/json": {"schema": {"$ref": _REF.format(name=name)}}},
        },
    }


def twin(struct: type[Struct], twins: dict[type[Struct], Any]) -> Any:
    """A struct with the members that a body can name, none of which has a default.

    Members of the gateway's own have a blank in their names, and a `Raw` default is no JSON.
    """
    if struct in twins:
        return twins[struct]
    twins[struct] = dict[str, Any]  # while it is made: for a struct within itself
    hints = get_type_hints(struct)
    fields = []
    for field in msgspec.structs.fields(struct):
        if " " in field.encode_name:
            continue
        hint = _public(hints[field.name], twins)
        if field.required:
            fields.append((field.name, hint, msgspec.field(name=field.encode_name)))
        else:
            optional = msgspec.field(name=field.encode_name, default_factory=lambda: None)
            fields.append((field.name, hint, optional))
    module = struct.__module__
    wire = next((wire for wire, name in _WIRES if module == name), "")
    about = (struct.__doc__ or "").partition("\n")[0]
    made = msgspec.defstruct(
        wire + struct.__name__, fields, namespace={"__doc__": about}, module=module, kw_only=True
    )
    twins[struct] = made
    return made


def _public(hint: Any, twins: dict[type[Struct], Any]) -> Any:
    if isinstance(hint, type) and not get_args(hint) and issubclass(hint, Struct):
        return twin(hint, twins)
    if hint is Raw:
        return Any
    origin, inner = get_origin(hint), get_args(hint)
    if origin is None or origin is Literal:
        return hint
    public = tuple(_public(each, twins) for each in inner)
    if origin in (Union, UnionType):
        return Union[public]  # noqa: UP007 (of types that are known at run time only)
    return origin[public]
