"""Runs one chat call for a request."""

from collections.abc import Sequence

from sanic import Request

from app.auth.caller import Caller
from app.auth.credentials import callers_own, check_house
from app.auth.model_scope import check_unambiguous
from app.engine.call import ChatCall, Target, credential_headers
from app.http.responses import gateway_of
from app.http.sinks import ChatSink
from app.telemetry.call_log import CallRecord
from app.wire.asked import Asked
from app.wire.front import Front


async def run_chat(request: Request, front: Front, targets: Sequence[Target], asked: Asked) -> None:
    """Runs one call, which is answered when this returns. The further targets are fallbacks.

    Raises GatewayError for what the caller may not ask, before an upstream has heard of it.
    """
    ctx = request.ctx
    record: CallRecord = ctx.record
    target, *fallbacks = targets
    provider, model = target.provider, target.model
    record.provider, record.model, record.front = provider.name, model[:128], front.name
    caller: Caller = ctx.caller
    own = callers_own(request.headers, credential_headers(front, target))
    if own:
        check_house(own, provider.family, front.house)
    elif not caller.may_use_keys:
        caller.need_keys()  # before the body is looked at
    caller.allow(provider.family, target.alias or model)
    if caller.token is not None and caller.token.models:
        check_unambiguous(asked.body, "model", "provider")
    sink = ChatSink(request, front.id_header, front.id_prefix)
    ctx.carried = True  # from here on the engine writes the log line
    await gateway_of(request).exchange.run(
        ChatCall(
            front=front,
            target=target,
            asked=asked,
            headers=request.headers if sink.lookup is None else sink.lookup,
            record=record,
            caller=caller,
            fallbacks=[
                each
                for each in fallbacks
                if caller.may(each.provider.family, each.alias or each.model)
            ],
        ),
        sink,
    )
