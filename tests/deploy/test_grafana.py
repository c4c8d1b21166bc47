"""deploy/grafana/any-proxy.json asks for metrics and labels that exist, and forgets none."""

import json
import re
import shutil
import subprocess
import time

import httpx
import pytest
import yaml

from app.telemetry.metrics import FAMILIES
from tests.server.load import CHAT
from tests.server.running import ROOT, free_port, running, until

FILE = ROOT / "deploy" / "grafana" / "any-proxy.json"
DASHBOARD = json.loads(FILE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
OF_PROMETHEUS = {"job", "instance", "le"}


def filled(query: str) -> str:
    """The query as Grafana sends it."""
    for name, value in {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m",
                        "$__range": "1h"}.items():  # fmt: skip
        query = query.replace(name, value)
    assert "$" not in query
    return query


def metrics_in(query: str) -> set[str]:
    names = set(re.findall(r"\bgateway_\w+(?=\{)", query))
    histograms = {one.name for one in FAMILIES if one.type == "histogram"}
    return {n.removesuffix("_bucket") if n.removesuffix("_bucket") in histograms else n
            for n in names}  # fmt: skip


def labels_in(query: str) -> set[str]:
    named = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query)
    grouped = ",".join(re.findall(r"\bby \(([^)]*)\)", query))
    return set(named) | {one.strip() for one in grouped.split(",") if one.strip()}


def documented_labels() -> dict[str, set[str]]:
    """Metric -> its labels, as the table of docs/operations.md has them."""
    rows = re.findall(
        r"^\| `(gateway_\w+)` \| \w+ \|([^|]*)\|", (ROOT / "docs/operations.md").read_text(), re.M
    )
    return {
        name: {one.split("(")[0].strip() for one in re.split(r",(?![^(]*\))", text)} - {""}
        for name, text in rows
    }


def test_every_metric_that_it_asks_for_exists_and_every_metric_is_shown():
    shown = set().union(*map(metrics_in, QUERIES))
    assert shown == {family.name for family in FAMILIES}
    assert all(metrics_in(query) for query in QUERIES)


def test_every_label_that_it_asks_for_is_one_of_the_metrics():
    known = documented_labels()
    for query in QUERIES:
        told = set().union(*(known[name] for name in metrics_in(query)))
        assert labels_in(query) <= told | OF_PROMETHEUS, query


def test_legends_name_labels_that_the_query_keeps():
    for panel in PANELS:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in labels_in(target["expr"]), (panel["title"], label)


def test_panels_fill_the_grid_without_covering_each_other():
    cells = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not own & cells and max(x for x, _ in own) < 24, panel["title"]
        cells |= own
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    sources = [panel["datasource"] for panel in PANELS]
    assert all(source["uid"] == "${datasource}" for source in sources)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool not found")
def test_every_query_is_well_formed(tmp_path):
    rules = [{"record": f"q:{n}", "expr": filled(query)} for n, query in enumerate(QUERIES)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus not found")
def test_a_real_prometheus_answers_every_query(simulator, tmp_path):
    config = {
        "openai": {
            "api_url": f"{simulator.url}/openai",
            "api_keys": [{"id": "k", "val": "sk-grafana-0001"}],
        },
        "access": {
            "tokens": [{"id": "a", "val": "grafana-0123456789", "budget": {"tokens": 10**6}}]
        },
    }
    port = free_port()
    with running(tmp_path, config) as gateway:
        target = gateway.url.removeprefix("http://")
        (tmp_path / "p.yml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s"},
                    "rule_files": [str(ROOT / "deploy" / "prometheus" / "alerts.yml")],
                    "scrape_configs": [
                        {"job_name": "any-proxy", "static_configs": [{"targets": [target]}]}
                    ],
                }
            )
        )
        process = subprocess.Popen(
            ["prometheus", f"--config.file={tmp_path}/p.yml", f"--storage.tsdb.path={tmp_path}/db",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as prometheus:
                _ask_all(gateway, prometheus)
        finally:
            process.terminate()
            process.wait(10)


def _ask_all(gateway, prometheus) -> None:
    def result(query: str) -> list:
        answer = prometheus.get("/api/v1/query", params={"query": query})
        assert answer.status_code == 200, (query, answer.text)
        return answer.json()["data"]["result"]

    def is_up() -> bool:
        try:
            return bool(result("up == 1"))
        except httpx.HTTPError:
            return False

    until(is_up, 20, every=0.2)
    headers = {"authorization": "Bearer grafana-0123456789"}
    for _ in range(4):
        for stream in (True, False):
            body = {"model": "gpt-4o", "stream": stream,
                    "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip
            asked = httpx.post(f"{gateway.url}{CHAT}", json=body, headers=headers, timeout=10)
            assert asked.status_code == 200
        time.sleep(1.2)  # over more than one scrape: a rate needs two
    unseen = (
        "upstream_errors", "unknown_events", "key_refused", "budget_refusals", "gateway_error",
        'outcome!~"complete', "unpriced",
    )  # fmt: skip
    empty = [query for query in QUERIES if not result(filled(query))]
    assert [query for query in empty if not any(word in query for word in unseen)] == []
    rules = prometheus.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert len(rules) == 11 and all(rule["health"] != "err" for rule in rules)
