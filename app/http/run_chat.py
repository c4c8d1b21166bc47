"""Runs one chat call for a request."""

from collections.abc import Iterable

from sanic import Request

from app.auth.caller import Caller
from app.auth.credentials import callers_own
from app.auth.model_scope import check_unambiguous
from app.engine.call import ChatCall, Target
from app.http.responses import gateway_of
from app.http.sinks import ChatSink
from app.telemetry.call_log import CallRecord
from app.wire.chat import Envelope
from app.wire.provider import Provider


async def carry(
    request: Request,
    provider: Provider,
    model: str,
    envelope: Envelope,
    body: bytes,
    fallbacks: Iterable[Target] = (),
) -> None:
    """Runs the exchange for one request, which is answered when this returns."""
    ctx = request.ctx
    record: CallRecord = ctx.record
    record.provider, record.model = provider.name, model[:128]
    caller: Caller = ctx.caller
    if not caller.may_use_keys and not callers_own(request.headers, provider.accepts):
        caller.need_keys()  # before the body is looked at
    caller.allow(provider.name, model)
    if caller.token is not None and caller.token.models:
        check_unambiguous(body, "model", "provider")
    sink = ChatSink(request)
    ctx.carried = True  # from here on the exchange writes the log line
    await gateway_of(request).exchange.run(
        ChatCall(
            provider=provider,
            envelope=envelope,
            body=body,
            headers=request.headers if sink.lookup is None else sink.lookup,
            model=model,
            record=record,
            caller=caller,
            fallbacks=[way for way in fallbacks if caller.may(way.provider.name, way.model)]
            if fallbacks
            else [],
        ),
        sink,
    )
