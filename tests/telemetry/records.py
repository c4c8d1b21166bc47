"""A call's record, and the metrics as a scrape shows them."""

from app.state.worker_slots import WorkerRows
from app.telemetry.call_log import CallRecord
from app.telemetry.metrics import add_up, as_text


def record(**more) -> CallRecord:
    told = {
        "request_id": "r1", "route": "/v1/*", "provider": "openai-api", "attempts": 1,
        "status": 200, "outcome": "complete", "total_ms": 120.0,
    }  # fmt: skip
    return CallRecord(**(told | more))


def figures(rows: WorkerRows) -> dict[str, float]:
    text = as_text(add_up(rows.used()))
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


CALLS = 'gateway_requests_total{provider="openai-api",route="/v1/*",outcome="complete"}'
