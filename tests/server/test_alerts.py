"""The alerts that the operators' guide advises, tried by promtool on what a gateway really says."""

import json
import re
import shutil
import subprocess

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.running import ROOT, running

CHAT = "/c/v1/chat/completions"
POOL, KEY = "openai.api_keys", "only"
RULES = ("KeyRefused", "KeysDoNotAnswer", "GatewayFails", "WorkersDie", "ProtocolChanged")

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


def advised() -> str:
    text = (ROOT / "docs" / "operations.md").read_text()
    (rules,) = re.findall(r"```yaml\n(groups:\n.*?)```", text, re.DOTALL)
    return rules


def fired(folder, scrape) -> set[str]:
    """The alerts that fire when each minute brings once more what this scrape has counted."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", scrape, re.MULTILINE))
    series = []
    for line in scrape.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            is_gauge = kinds.get(name.partition("{")[0]) == "gauge"
            values = f"{value}x20" if is_gauge else f"0+{value}x20"
            series.append({"series": name, "values": values})
    nothing = [{"eval_time": "12m", "alertname": alert, "exp_alerts": []} for alert in RULES]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": nothing}],
    }
    (folder / "rules.yml").write_text(advised())
    (folder / "test.yml").write_text(json.dumps(test))  # JSON is YAML
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    found = set(re.findall(r"alertname: ?(\w+)", said))
    assert bool(done.returncode) is bool(found), said
    return found


def test_the_rules_are_prometheus_own_and_name_what_there_is(tmp_path):
    (tmp_path / "rules.yml").write_text(advised())
    subprocess.run(["promtool", "check", "rules", "rules.yml"], cwd=tmp_path, check=True)
    assert tuple(re.findall(r"alert: (\w+)", advised())) == RULES


def test_a_refused_key_is_told_until_it_is_answered_again(simulator, tmp_path):
    config = config_for(simulator.url, workers=1)
    config["openai"]["api_keys"] = [{"id": KEY, "val": "sk-alert-refused"}]
    with running(tmp_path / "g", config) as gateway, httpx.Client(base_url=gateway.url) as http:

        def ask(model="gpt-4o"):
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
            return http.post(CHAT, json=body)

        def scrape():
            text = http.get("/metrics").text
            checked = subprocess.run(
                ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
            )
            assert checked.returncode == 0, checked.stderr
            return text

        def reset():
            order = {"action": "reset", "id": KEY, "pool": POOL}
            assert http.post("/admin/keys", json=order).status_code == 200

        assert ask().status_code == 200
        assert fired(tmp_path, scrape()) == set()
        assert ask("sim-401").status_code == 401
        again = [ask() for _ in range(10)]
        assert {(a.status_code, a.headers["x-gateway-error"]) for a in again} == {
            (401, "keys_refused")
        }
        refused = scrape()
        name = f'{{provider="{POOL}",key_id="{KEY}"}}'
        assert f"gateway_key_refused{name} 1\n" in refused
        assert fired(tmp_path, refused) == {"KeyRefused", "KeysDoNotAnswer"}
        reset()
        assert ask().status_code == 200
        assert f"gateway_key_refused{name} 0\n" in scrape()
