"""The files of deploy/: they fit the gateway and each other, and their own programs accept them."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.config.load import ConfigError, load
from app.config.reader import OVERRIDABLE_KEYS
from app.config.schema import Config
from app.http.routes import admin
from tests.server.nginx import needed as nginx_needed

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DRAIN = Config().drain_seconds
TOKEN = "a-token-of-one-caller"


def read(name: str):
    return yaml.safe_load((DEPLOY / name).read_text())


def run(*command, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=50, **more
    )


def seconds(text: str) -> int:
    return int(re.fullmatch(r"(\d+)s?", text)[1])


def dockerfile(name: str) -> list[str]:
    """The arguments of an instruction, each time that it is there."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    return re.findall(rf"^{name} (.*)$", text, re.M)


def compose() -> dict[str, dict]:
    """The services of deploy/compose.yaml, extended as compose does it."""
    base, services = read("gateway.yaml")["services"], read("compose.yaml")["services"]
    for name, service in services.items():
        if where := service.pop("extends", None):
            assert where["file"] == "gateway.yaml"
            own = base[where["service"]]
            environment = {**own["environment"], **service.get("environment", {})}
            services[name] = {**own, **service, "environment": environment}
    return services


GATEWAYS = ("gateway-a", "gateway-b")


def kubernetes() -> dict[str, dict]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


# -- the config


def test_the_config_has_no_mistakes_and_admits_a_caller():
    (variables,) = {frozenset(compose()[name]["environment"]) for name in GATEWAYS}
    environ = {name: f"value-of-{name}" for name in variables}
    environ |= {
        "ANY_PROXY_TOKEN": TOKEN,
        "REDIS_URL": compose()["gateway-a"]["environment"]["REDIS_URL"],
        "LEDGER_URL": "postgresql://any_proxy:word@postgres/any_proxy",
    }
    loaded = load(str(DEPLOY / "c.yaml"), environ)
    assert loaded.warnings == []
    config = loaded.config
    assert [token.val for token in config.access.tokens] == [TOKEN]
    assert config.openai.api_keys and config.claude.api_keys and config.google_gemini.api_keys
    assert config.redis_url and config.trusted_proxies
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "c.yaml").read_text()))
    assert used == variables


def test_without_a_token_it_does_not_start():
    with pytest.raises(ConfigError, match="ANY_PROXY_TOKEN"):
        load(str(DEPLOY / "c.yaml"), {})


# -- compose


def test_the_services_of_compose_fit_together():
    services, volumes = compose(), read("compose.yaml")["volumes"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= services.keys(), name
        for source, target, *_ in (each.split(":") for each in service.get("volumes", ())):
            assert source in volumes if "/" not in source else (DEPLOY / source).is_file(), name
            assert target.startswith("/")
    for name in GATEWAYS:
        service = services[name]
        assert seconds(service["stop_grace_period"]) > DRAIN
        assert service["read_only"] and service["tmpfs"] == ["/tmp"]
        assert (DEPLOY / service["build"] / "Dockerfile").exists()
        (config,) = [v for v in service["volumes"] if v.startswith("./c.yaml:")]
        assert config.split(":")[1] == f"{dockerfile('WORKDIR')[-1]}/etc/c.yaml"
    own = {services[name]["volumes"][1] for name in GATEWAYS}
    assert len(own) == 2  # data is never shared
    upstream = (DEPLOY / "nginx/upstream.compose.conf").read_text()
    (port,) = dockerfile("EXPOSE")
    assert re.findall(r"server (\S+) ", upstream) == [f"{name}:{port}" for name in GATEWAYS]


def test_both_compose_files_have_the_same_gateway():
    alone = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["gateway"]
    assert alone["extends"] == {"file": "deploy/gateway.yaml", "service": "gateway"}
    port = dockerfile("EXPOSE")[0]
    assert alone["ports"] == [f"{port}:{port}"]


@pytest.mark.parametrize("file", ["compose.yaml", "deploy/compose.yaml"])
def test_compose_accepts_its_files(file):
    commands = (("docker", "compose"), ("docker-compose",))
    command = next((c for c in commands if run_or_none(*c, "version")), None)
    if command is None:
        pytest.skip("no compose: apt install docker-compose")
    environ = {**os.environ, "ANY_PROXY_TOKEN": TOKEN, "POSTGRES_PASSWORD": "word"}
    done = run(*command, "-f", ROOT / file, "config", env=environ)
    assert done.returncode == 0, done.stderr


def run_or_none(*command) -> bool:
    return bool(shutil.which(command[0])) and run(*command).returncode == 0


# -- the image


def test_the_image_is_given_what_it_copies():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = {line[1:] for line in ignore if line.startswith("!")}
    assert ignore[0] == "*"
    sources = [
        source
        for line in dockerfile("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    ]
    assert set(sources) == admitted
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_is_not_run_by_root():
    (user,) = dockerfile("USER")
    pod = kubernetes()["StatefulSet"]["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{pod['runAsUser']}:{pod['runAsGroup']}" and pod["runAsUser"] > 0
    assert f"--uid {pod['runAsUser']} " in (ROOT / "Dockerfile").read_text()


# -- Kubernetes


def test_the_manifests_say_what_the_gateway_does():
    found = kubernetes()
    stateful = found["StatefulSet"]["spec"]
    pod = stateful["template"]["spec"]
    (container,) = pod["containers"]
    routes = open_routes()
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        assert get["path"] in routes and get["port"] == "http", probe
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["ports"] == [{"name": "http", "containerPort": int(dockerfile("EXPOSE")[0])}]
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > int(pause) + DRAIN
    for variable in container["env"]:
        assert variable["name"] in known_variables()
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    workdir = dockerfile("WORKDIR")[-1]
    assert mounted == {"config": f"{workdir}/etc", "data": f"{workdir}/data", "tmp": "/tmp"}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    labels = stateful["template"]["metadata"]["labels"]
    assert labels == stateful["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]
    budget = found["PodDisruptionBudget"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert budget["maxUnavailable"] < stateful["replicas"]
    (made,) = read("kustomization.yaml")["configMapGenerator"]
    assert made["files"] == ["c.yaml"]
    assert {"name": "config", "configMap": {"name": made["name"]}} in pod["volumes"]


def open_routes() -> set[str]:
    """The paths that answer anybody: a kubelet has no token."""

    class Routes:
        def __init__(self) -> None:
            self.paths = set()

        def add_route(self, handler, path, **_) -> None:
            if handler in (admin.ping, admin.healthz, admin.readyz):
                self.paths.add(path)

    routes = Routes()
    admin.register(routes)
    return routes.paths


def known_variables() -> set[str]:
    return {"ANY_PROXY_CONFIG", *(variable for _, variable in OVERRIDABLE_KEYS.values())}


@pytest.mark.parametrize("version", ["1.30.0", "1.37.0"])
def test_kubernetes_knows_every_member_of_the_manifests(version, tmp_path):
    file = DEPLOY / "kubernetes.yaml"
    if shutil.which("kubectl"):
        done = run("kubectl", "kustomize", DEPLOY)
        assert done.returncode == 0, done.stderr
        file = tmp_path / "all.yaml"
        file.write_text(done.stdout)
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version]
    done = run(*command, file)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text(file.read_text().replace("readinessProbe", "readyProbe"))
    assert run(*command, broken).returncode != 0


# -- systemd


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "any-proxy@.service").read_text().splitlines():
        if re.match(r"[A-Z]\w+=", line):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_says_what_the_gateway_does():
    found = unit()
    assert seconds(found["TimeoutStopSec"][0]) > DRAIN
    assert found["RestartPreventExitStatus"] == ["2"]  # tests/server/test_processes.py: a mistake
    names = {word.partition("=")[0] for line in found["Environment"] for word in line.split()}
    assert names <= known_variables()
    assert found["StateDirectory"][0] in found["WorkingDirectory"][0]


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze: apt install systemd"
)
def test_systemd_accepts_the_unit(tmp_path):
    file = tmp_path / "any-proxy@.service"
    program = unit()["ExecStart"][0].split()[0]
    text = (DEPLOY / file.name).read_text().replace(program, sys.executable)
    file.write_text(text)
    done = run("systemd-analyze", "verify", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    file.write_text(text.replace("KillMode=mixed", "KillMode=gently"))
    assert "kill mode" in run("systemd-analyze", "verify", file).stderr


# -- in front of it


@nginx_needed
@pytest.mark.parametrize("upstream", ["upstream.conf", "upstream.compose.conf"])
def test_nginx_accepts_its_files(upstream, tmp_path):
    text = (DEPLOY / "nginx" / upstream).read_text() + (DEPLOY / "nginx/server.conf").read_text()
    ports = itertools.count(9000)
    text = re.sub(r"gateway-\w:8999", lambda _: f"127.0.0.1:{next(ports)}", text)  # no such hosts
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{text}\n}}\n")
    done = run("nginx", "-t", "-c", file, "-e", tmp_path / "err")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("caddy"), reason="no caddy: apt install caddy")
def test_caddy_accepts_its_file():
    command = ("caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile")
    done = run(*command, env={**os.environ, "DOMAIN": "ai.example.org"})
    assert done.returncode == 0, done.stderr
    assert "not formatted" not in done.stderr


@pytest.mark.parametrize("name", ["Caddyfile", "nginx/server.conf"])
def test_a_proxy_waits_longer_than_a_call_may_take(name):
    text = (DEPLOY / name).read_text()
    waits = [int(found) for found in re.findall(r"(?:_read_timeout|_header_timeout) (\d+)s", text)]
    assert waits and min(waits) > Config().timeouts.total
    (size,) = re.findall(r"(?:client_max_body_size|max_size) (\d+)", text)
    assert int(size) * 2**20 >= Config().limits.upload_bytes
