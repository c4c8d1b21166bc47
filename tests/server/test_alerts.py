"""deploy/prometheus/alerts.yml, judged by promtool on what a gateway really tells."""

import re
import shutil
import subprocess

import httpx
import pytest
import yaml

from app.state.worker_slots import NAMES, VALUES, Row, WorkerRows
from app.telemetry.call_log import CallRecord
from app.telemetry.metrics import FAMILIES, Metrics, add_up, as_text
from tests.server.load import CHAT
from tests.server.running import ROOT, running

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
pytestmark = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool not found: apt install prometheus"
)
QUIET = 15  # minutes of the first scrape
TARGET = 'job="any-proxy",instance="one"'


def promtool(*words, **more) -> None:
    done = subprocess.run(
        ["promtool", *map(str, words)], capture_output=True, text=True, timeout=50, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr


def samples(scrape: str) -> dict[str, str]:
    """Series as Prometheus keeps them, with the target's labels."""
    found = {}
    for line in scrape.splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name, _, labels = series.partition("{")
            found[f"{name}{{{labels.rstrip('}') + ',' if labels else ''}{TARGET}}}"] = value
    return found | {f"up{{{TARGET}}}": "1"}


def firing(folder, scrapes: list[str], at: int, alerts: list[str]) -> None:
    """That after the first scrape for a while, one each minute, and the last one from then on, just
    these alerts fire in minute `at`."""
    told = [samples(scrape) for scrape in scrapes]
    rows = [told[0]] * QUIET + told + [told[-1]] * 120
    series = dict.fromkeys(name for row in told for name in row)
    test = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": " ".join(row.get(name, "_") for row in rows)}
            for name in series
        ],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{at}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts
                ],
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]})
    )
    promtool("test", "rules", file)


def config_of(simulator) -> dict:
    return {
        "workers": 2,
        "openai": {
            "api_url": f"{simulator.url}/openai",
            "api_keys": [
                {"id": "good", "val": "sk-alerts-1"},
                {"id": "fine", "val": "sk-alerts-2"},
            ],
        },
        "claude": {
            "api_url": f"{simulator.url}/claude",
            "api_keys": [{"id": "refused", "val": "sk-ant-dead-alerts"}],
        },
    }


def test_a_gateways_troubles_raise_the_alerts_and_its_peace_none(simulator, tmp_path):
    scrapes = []
    with (
        running(tmp_path, config_of(simulator)) as gateway,
        httpx.Client(base_url=gateway.url, timeout=20) as http,
    ):

        def ask(model: str) -> int:
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
            return http.post(CHAT, json=body).status_code

        def scrape() -> None:
            scrapes.append(http.get("/metrics").text)

        assert ask("gpt-4o") == 200
        gateway.wait_log(status=200)
        scrape()
        promtool("check", "metrics", input=scrapes[0])
        for _ in range(8):  # a minute each: calls fail, and a key is refused
            assert ask("gpt-4o") == 200 and ask("sim-400") == 400
            assert ask("claude/claude-haiku-4-5") >= 400
            scrape()
    # To kill a worker for it takes seconds; tests/server/test_admin.py does.
    restarts = "\ngateway_worker_restarts_total "
    assert f"{restarts}0\n" in scrapes[-1]
    scrapes.append(scrapes[-1].replace(f"{restarts}0\n", f"{restarts}1\n"))
    firing(tmp_path, scrapes[:1], QUIET + 90, [])
    troubles = ["GatewayCallsFail", "GatewayKeyRefused", "GatewayPoolOut"]
    firing(tmp_path, scrapes, QUIET + 8, troubles)
    lasting = ["GatewayKeyRefused", "GatewayPoolOut"]
    firing(tmp_path, scrapes, QUIET + 20, [*lasting, "GatewayWorkersDie"])
    firing(tmp_path, scrapes, QUIET + 90, lasting)


def test_the_first_event_of_its_kind_raises_its_alert(tmp_path):
    row = Row(memoryview(bytearray(64 + VALUES * 8 + NAMES)))
    metrics = Metrics(row)

    def told() -> str:
        return as_text(add_up([row]))

    call = {"route": "/c/v1/chat/completions", "provider": "claude-api", "attempts": 1}
    metrics.call(CallRecord(request_id="1", outcome="complete", **call))
    scrapes = [told()]
    failed = CallRecord(request_id="2", outcome="gateway_error", unknown_events=3, **call)
    metrics.call(failed)
    scrapes.append(told())
    firing(tmp_path, scrapes, QUIET, [])
    firing(tmp_path, scrapes, QUIET + 2, ["GatewayErrors", "GatewayUnknownEvents"])
    firing(tmp_path, scrapes, QUIET + 30, ["GatewayUnknownEvents"])
    firing(tmp_path, scrapes, QUIET + 90, [])


def test_a_ledger_and_a_collector_that_are_away_raise_their_alerts(tmp_path):
    row = WorkerRows().claim()  # a gauge counts while its worker runs
    assert row is not None
    metrics = Metrics(row)
    scrapes = []
    for minute in range(8):
        metrics.ledger(5, 7 if minute else 0, max(minute - 6, 0))
        metrics.traces_dropped(minute)
        scrapes.append(as_text(add_up([row])))
    firing(tmp_path, scrapes, QUIET, [])
    firing(tmp_path, scrapes, QUIET + 4, [])
    both = ["GatewayLedgerUnwritten", "GatewayTracesDropped"]
    firing(tmp_path, scrapes, QUIET + 8, ["GatewayLedgerRowsDropped", *both])
    firing(tmp_path, scrapes, QUIET + 60, ["GatewayLedgerUnwritten"])


def test_a_target_that_is_gone_raises_an_alert(tmp_path):
    series = {"series": f"up{{{TARGET}}}", "values": "1 1 0 0 0 0"}
    check = {
        "expr": 'ALERTS{alertstate="firing"}',
        "eval_time": "4m",
        "exp_samples": [
            {
                "labels": 'ALERTS{alertname="GatewayDown",alertstate="firing",severity="page",'
                f"{TARGET}}}",
                "value": 1,
            }
        ],
    }
    test = {"interval": "1m", "input_series": [series], "promql_expr_test": [check]}
    file = tmp_path / "test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]})
    )
    promtool("test", "rules", file)


def test_the_rules_are_well_formed_and_speak_of_metrics_that_exist():
    promtool("check", "rules", RULES)
    told = set(re.findall(r"\bgateway_\w+(?=[{[) ])", RULES.read_text()))
    assert len(told) == 9 and told <= {family.name for family in FAMILIES}
