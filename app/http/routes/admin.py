"""Health checks for load balancers; state, metrics, keys and reload for operators."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sanic import HTTPResponse, Request

from app import __version__
from app.engine.key_check import Finding, check_key
from app.http.responses import App, directory_of, gateway_of, json_answer
from app.http.routes.operator_auth import ROUTE, check_operator, private_headers
from app.pool.lease import KeyStatus
from app.state.reload_status import ReloadStatus
from app.state.worker_slots import Row
from app.telemetry.metrics import BUCKETS, add_up, as_text, label
from app.telemetry.recent_calls import calls_of, last_errors
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError, bad_request, from_validation
from app.wire.renderer import JSON

_LAST_ERRORS = 20


def register(app: App) -> None:
    """Adds the routes of this module."""
    app.add_route(ping, "/ping", methods=["GET", "HEAD"])
    app.add_route(healthz, "/healthz", methods=["GET", "HEAD"])
    app.add_route(readyz, "/readyz", methods=["GET", "HEAD"])
    app.add_route(metrics, "/metrics", methods=["GET", "HEAD"])
    app.add_route(state, "/admin/state", methods=["GET"])
    app.add_route(explain, "/admin/requests/<wanted:str>", methods=["GET"])
    app.add_route(keys, "/admin/keys", methods=["GET"])
    app.add_route(change_key, "/admin/keys", methods=["POST"])
    app.add_route(reload, "/admin/reload", methods=["POST"])


async def ping(request: Request) -> HTTPResponse:
    """Answers `{"ping": "ok"}`."""
    return json_answer(request, {"ping": "ok"})


async def healthz(request: Request) -> HTTPResponse:
    """Liveness: this worker's event loop answers."""
    return json_answer(request, {"status": "ok"})


async def readyz(request: Request) -> HTTPResponse:
    """Readiness: 503 from the moment a shutdown begins."""
    if gateway_of(request).ready:
        return json_answer(request, {"status": "ready"})
    return json_answer(request, {"status": "draining"}, 503)


async def metrics(request: Request) -> HTTPResponse:
    """Prometheus metrics of all workers, whichever of them answers."""
    check_operator(request)
    gateway = gateway_of(request)
    rows = gateway.rows.used()
    found = add_up(rows)
    for key in gateway.pool.key_statuses():
        name = f'{{provider="{label(key.pool)}",key_id="{label(key.id)}"}}'
        used = key.state not in ("resting", "disabled")
        found[f"gateway_key_state{name}"] = [float(used)]
        if key.id:  # the row without an id is the upstream: shown only while it cools down
            found[f"gateway_key_refused{name}"] = [float(key.refused)]
        found[f"gateway_key_uses_total{name}"] = [float(key.uses)]
    for token, what, part in gateway.budgets.used():
        name = f'{{token="{label(token)}",kind="{what}"}}'
        found[f"gateway_budget_used_ratio{name}"] = [part]
    reload_status = reload_status_of(request)
    found["gateway_workers"] = [float(sum(row.is_alive for row in rows))]
    found["gateway_worker_restarts_total"] = [float(reload_status.revived if reload_status else 0)]
    found["gateway_reloads_total"] = [float(reload_status.reloads if reload_status else 0)]
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return HTTPResponse(as_text(found), 200, private_headers(request), kind)


async def state(request: Request) -> HTTPResponse:
    """Workers, open calls, outcomes, keys, last errors and reloads, as JSON."""
    check_operator(request)
    rows = gateway_of(request).rows.used()
    errors = await asyncio.to_thread(last_errors, rows, _LAST_ERRORS, ROUTE)
    return private_json(
        request, {**await figures(request), "keys": key_list(request), "last_errors": errors}
    )


async def figures(request: Request) -> dict[str, Any]:
    """What `state` tells without keys and errors, and per provider: outcomes, tokens (prompt and
    completion), and the cells of the histogram of first events with its `bounds`; the used part of
    each budget."""
    gateway, reload_status = gateway_of(request), reload_status_of(request)
    # Some milliseconds with many workers: not on the event loop.
    workers, providers = await asyncio.to_thread(_count, gateway.rows.used())
    by_pid = await _workers(request)
    for worker in workers:
        known = by_pid.get(worker["pid"], {})
        worker["name"] = known.get("name", "")
        worker["state"] = "leaving" if known.get("state") == "TERMINATED" else "serving"
        worker["restarts"] = max(known.get("starts", 1) - 1, 0)
    last = reload_status.outcome() if reload_status else None
    outcomes = Counter[str]()
    for provider in providers.values():
        outcomes.update(provider["outcomes"])
    return {
        "version": __version__,
        "time": int(time.time()),
        "ready": gateway.ready,
        "workers": sorted(workers, key=lambda worker: str(worker["name"])),
        "worker_restarts": reload_status.revived if reload_status else 0,
        "reloads": reload_status.reloads if reload_status else 0,
        "last_reload": last.message if last else None,
        "last_reload_ok": last.ok if last else None,
        "open_calls": sum(worker["open_calls"] for worker in workers),
        "open_streams": sum(worker["open_streams"] for worker in workers),
        "outcomes": outcomes,
        "providers": providers,
        "bounds": BUCKETS,
        "budgets": [
            {"token": token, "kind": what, "used": round(part, 4)}
            for token, what, part in gateway.budgets.used()
        ],
    }


def _count(rows: Sequence[Row]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The open calls of each running worker, and the counters of all by provider."""
    workers = []
    for row in rows:
        if row.is_alive:
            counted = add_up([row])
            calls, streams = _open(counted, "calls"), _open(counted, "streams")
            workers.append({"pid": row.pid, "open_calls": calls, "open_streams": streams})
    return workers, _by_provider(add_up(rows))


_SERIES = re.compile(
    r'(\w+)\{provider="([^"]*)"(?:,route="([^"]*)")?(?:,\w+="([^"]*)")?\}'
).fullmatch


def _by_provider(counted: Mapping[str, list[float]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, values in counted.items():
        if (parts := _SERIES(name)) is None or parts[3] == ROUTE:
            continue
        family, provider = (
            parts[1],
            found.setdefault(parts[2], {"outcomes": {}, "tokens": {}, "first_event": []}),
        )
        match family:
            case "gateway_requests_total":
                outcomes = provider["outcomes"]
                outcomes[parts[4]] = outcomes.get(parts[4], 0) + int(values[0])
            case "gateway_tokens_total":
                provider["tokens"][parts[4]] = int(values[0])
            case "gateway_first_event_seconds":
                provider["first_event"] = values[:-1]
    return {name: each for name, each in found.items() if each["outcomes"]}


def key_list(request: Request) -> list[KeyStatus]:
    """The status of every key, with the end of each session that tells it."""
    gateway, now = gateway_of(request), int(time.time())
    ends = {(key.pool, key.id): now + left for key, left in gateway.sessions.expiries(now)}
    found = gateway.pool.key_statuses()
    for status in found:
        status.expires = ends.get((status.pool, status.id))
    return found


async def explain(request: Request, wanted: str) -> HTTPResponse:
    """The attempts of one call: the outcome of each, why the next was made, how the call ended."""
    check_operator(request)
    found = await asyncio.to_thread(calls_of, gateway_of(request).rows.used(), wanted)
    if not found:
        raise GatewayError(
            404,
            "No call with this x-request-id is remembered: it still runs, or it is among the older "
            "ones, which only the log has.",
            code="request_not_found",
        )
    return private_json(
        request, {"request_id": wanted, "calls": [_explained(call) for call in found]}
    )


def _explained(call: dict[str, Any]) -> dict[str, Any]:
    tried = call.pop("tried", [])
    attempts = [
        {
            "key_id": one["key_id"],
            "provider": one["provider"],
            "model": one["model"],
            "class": one["outcome"],
            "status": one["status"],
            "code": one["code"],
            "ms": one["ms"],
            "next": one.get("next", ""),
        }
        for one in tried
    ]
    count = call.get("attempts", 0)
    if len(attempts) < count:  # the record of the call itself is the last one
        attempts.append(
            {
                "key_id": call.get("key_id", ""),
                "provider": call.get("provider", ""),
                "model": call.get("model", ""),
                "class": "ok" if call.get("outcome") == "complete" else call.get("outcome", ""),
                "status": call.get("status", 0),
                "code": call.get("code", ""),
                "ms": round(call.get("total_ms", 0.0) - sum(one["ms"] for one in tried), 3),
                "next": "",
            }
        )
    ended = call.get("outcome", "") + (f": {call['code']}" if call.get("code") else "")
    return call | {"attempts": attempts, "ended": ended}


class KeyOrder(Struct, forbid_unknown_fields=True):
    """What an operator asks of one key; `pool` where several have a key of this id."""

    action: Literal["reset", "disable", "enable", "test"]
    id: str
    pool: str = ""


_key_order = msgspec.json.Decoder(KeyOrder)


async def keys(request: Request) -> HTTPResponse:
    """The status of every key."""
    check_operator(request)
    return private_json(request, {"keys": key_list(request)})


async def change_key(request: Request) -> HTTPResponse:
    """Disables, enables or resets a key, in all workers; `test` asks its upstream about it."""
    check_operator(request)
    try:
        order = _key_order.decode(request.body)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("The body is no JSON.") from None
    pool = gateway_of(request).pool
    key = _find_key(pool.key_statuses(), order)
    if order.action == "test":
        return private_json(request, {"finding": await _test_key(request, key)})
    change = pool.disable if order.action == "disable" else pool.reset
    change(key.pool, key.id)
    now = [one for one in pool.key_statuses() if (one.pool, one.id) == (key.pool, key.id)]
    return private_json(request, {"keys": now})


async def _test_key(request: Request, status: KeyStatus) -> Finding:
    """What the upstream says of the key. The key's state in the pool stays as it is."""
    gateway = gateway_of(request)
    key = gateway.pool.find(status.pool, status.id)
    provider = next((p for p in directory_of(request).all if p.pool == status.pool), None)
    if key is None or provider is None:
        raise bad_request(f"There is nothing to ask about {status.pool}.", "id")
    current = gateway.sessions.current(key)
    return await check_key(
        gateway.config, gateway.clients, gateway.sessions, current, provider, redact
    )


def _find_key(standings: list[KeyStatus], order: KeyOrder) -> KeyStatus:
    found = [key for key in standings if key.id == order.id and order.pool in ("", key.pool)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise GatewayError(
            404,
            f"No key with id {order.id[:64]!r}{f' in {order.pool[:64]}' if order.pool else ''}; "
            "GET /admin/keys lists them.",
            code="unknown_key",
        )
    pools = ", ".join(key.pool for key in found)
    raise bad_request(f"Several pools have a key of this id; name one: {pools}.", "pool")


async def reload(request: Request) -> HTTPResponse:
    """Reloads the config, in all workers or, when it has mistakes, in none."""
    check_operator(request)
    reload_status = reload_status_of(request)
    if reload_status is None:
        raise GatewayError(
            501, "A gateway in a single process does not reload.", code="not_reloadable"
        )
    outcome = await reload_status.ask(request.app.shared_ctx.family[0])
    if outcome is None:
        raise GatewayError(
            504,
            "The reload has not ended within a minute; the log has more.",
            code="reload_unfinished",
        )
    status = 200 if outcome.ok else 400 if outcome.problems else 503
    body: dict[str, Any] = msgspec.to_builtins(outcome)
    if not outcome.ok:
        code = "config_has_mistakes" if outcome.problems else "reload_failed"
        lines = "\n".join([outcome.message, *outcome.problems])
        kind = "invalid_request_error" if status == 400 else "server_error"
        body["error"] = {"message": lines, "type": kind, "param": None, "code": code}
    return private_json(request, body, status)


def private_json(request: Request, body: Any, status: int = 200) -> HTTPResponse:
    """`body` as JSON that no cache keeps and no other website reads."""
    return HTTPResponse(msgspec.json.encode(body), status, private_headers(request), JSON)


def reload_status_of(request: Request) -> ReloadStatus | None:
    """The reloads so far, None in a single process."""
    status: ReloadStatus | None = request.app.ctx.reload_status
    return status


def _open(counted: Mapping[str, list[float]], what: str) -> int:
    return int(counted.get(f'gateway_open_{what}{{kind="all"}}', [0.0])[0])


async def _workers(request: Request) -> dict[int, dict[str, Any]]:
    """The process manager's table of workers, by pid. The table is in another process."""
    if not hasattr(request.app, "multiplexer"):
        return {}
    try:
        known = await asyncio.to_thread(lambda: request.app.m.workers)
    except (OSError, EOFError):
        return {}
    return {one["pid"]: {"name": name, **one} for name, one in known.items() if "pid" in one}
