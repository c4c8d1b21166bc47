"""Runs one chat call for a request."""

from collections.abc import Sequence

from msgspec.structs import replace
from sanic import Request

from app.auth.caller import Caller
from app.auth.credentials import callers_own, check_house
from app.auth.model_scope import check_unambiguous
from app.engine.call import ChatCall, Target, credential_headers
from app.http.kept_answers import answers_are_kept, owner_of_answers
from app.http.responses import directory_of, gateway_of
from app.http.sinks import ChatSink, RecordedSink
from app.telemetry.call_log import CallRecord
from app.wire.asked import Asked
from app.wire.endpoints import FORMS, Endpoint
from app.wire.front import Front
from providers.directory import Directory


async def run_chat(request: Request, front: Front, targets: Sequence[Target], asked: Asked) -> None:
    """Runs one call, which is answered when this returns. The further targets are fallbacks.

    Raises GatewayError for what the caller may not ask, before an upstream has heard of it.
    """
    ctx = request.ctx
    record: CallRecord = ctx.record
    target, *fallbacks = targets
    provider, model = target.provider, target.model
    record.provider, record.model, record.front = provider.name, model[:128], front.name
    record.model_asked, record.session_id = asked.model[:128], asked.session_id
    caller: Caller = ctx.caller
    own = callers_own(request.headers, credential_headers(front, target))
    if own:
        check_house(own, provider.family, front.house)
    elif not caller.may_use_keys:
        caller.need_keys()  # before the body is looked at
    caller.allow(provider.family, target.alias or model)
    if caller.token is not None and caller.token.models and front.endpoint not in FORMS:
        check_unambiguous(asked.body, "model", "provider")  # a form has been checked when read
    if front.endpoint is not None:
        target, *fallbacks = _at_endpoint(front.endpoint, targets, directory_of(request))
    owner = None
    if front.refers is not None and answers_are_kept(request):
        owner = owner_of_answers(request, front)
    exchange = gateway_of(request).exchange
    kind = ChatSink if exchange.call_files is None else RecordedSink
    sink = kind(request, front.id_header, front.id_prefix)
    ctx.carried = True  # from here on the engine writes the log line
    await exchange.run(
        ChatCall(
            front=front,
            target=target,
            asked=asked,
            headers=request.headers if sink.lookup is None else sink.lookup,
            record=record,
            caller=caller,
            owner=owner,
            fallbacks=[
                each
                for each in fallbacks
                if caller.may(each.provider.family, each.alias or each.model)
            ],
        ),
        sink,
    )


def _at_endpoint(
    endpoint: Endpoint, targets: Sequence[Target], directory: Directory
) -> list[Target]:
    """The targets as they are beside chat; fallbacks that have no such endpoint are left out."""
    first, *others = targets
    return [
        replace(first, provider=directory.at_endpoint(endpoint, first.provider)),
        *(
            replace(each, provider=found)
            for each in others
            if (found := each.provider.endpoints.get(endpoint)) is not None
        ),
    ]
