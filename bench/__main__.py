"""`python -m bench`: runs the scenarios and prints the table."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from bench.heads import HEADS
from bench.processes import Server, free_port
from bench.scenarios import GEMINI, MESSAGES, RESPONSES, SCENARIOS

ROOT = Path(__file__).parents[1]
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err warn;
worker_rlimit_nofile 8192; events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; keepalive_timeout 300s; tcp_nodelay on;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream plain {{ server 127.0.0.1:{plain}; keepalive 1024; keepalive_requests 1000000; }}
  upstream tls {{ server 127.0.0.1:{tls}; keepalive 1024; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    proxy_read_timeout 300s;
    location / {{ proxy_pass http://plain; }}
    location /v1/realtime {{
      proxy_pass http://plain;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
    location /tls/ {{ proxy_pass https://tls/; proxy_ssl_session_reuse on; }}
  }}
}}
"""
TOKEN = "bench-7f1c0e5a94d24b6f8a3d"
NO_LEDGER = "gateway-no-ledger"
BUDGET = {"usd": 1_000_000, "tokens": 2**50, "per": "month"}  # never spent
MODELS = {
    "openai": "bench",
    "responses": "only/bench",
    "claude": "claude/claude-3-5-bench",
    "gemini": "gemini/gemini-bench",
    "chatgpt": "openai-chat-web/bench",
    "claude-web": "claude/claude-bench",
}


def main() -> int:
    """Starts the servers, measures, prints the table, stops the servers; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scenarios", default=",".join(s.name for s in SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--heads",
        choices=tuple(HEADS),
        default="plain",
        help="whose request headers are sent: the fewest, the openai package's, Node's fetch's",
    )
    parser.add_argument(
        "--ledger",
        action="store_true",
        help="measure the ledger, budgets and prices: beside a gateway without",
    )
    asked = parser.parse_args()
    wanted = [s for s in SCENARIOS if s.name in asked.scenarios.split(",")]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        servers = start(Path(name), asked.workers, asked.ledger)
        try:
            report(measure(servers, wanted, asked), servers, asked)
        finally:
            for server in servers.values():
                server.stop()
    return 0


def start(folder: Path, workers: int, has_budgets: bool) -> dict[str, Server]:
    """Starts upstreams, nginx if installed, and the gateways; returns them once they listen."""
    plain, tls, nginx, gateway = (free_port() for _ in range(4))
    pem, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(pem)],
        check=True, capture_output=True,
    )  # fmt: skip
    upstream = [sys.executable, "-m", "bench.upstream"]
    servers = {
        "upstream": Server([*upstream, str(plain)], plain, folder / "upstream.log"),
        "upstream-tls": Server(
            [*upstream, str(tls), str(pem), str(key)], tls, folder / "upstream-tls.log"
        ),
    }
    if shutil.which("nginx"):
        conf = folder / "nginx.conf"
        conf.write_text(NGINX.format(folder=folder, plain=plain, tls=tls, port=nginx))
        command = ["nginx", "-e", f"{folder}/nginx.err", "-c", str(conf)]
        servers["nginx"] = Server(command, nginx, folder / "nginx.log")
    else:
        print("nginx is not installed (apt install nginx-light): no ratios", file=sys.stderr)
    keys = [{"id": f"k{n}", "val": f"sk-bench-{n}"} for n in range(3)]
    sessions = [{"id": f"s{n}", "val": f"session-{n}", "max_concurrent": 1000} for n in range(3)]
    url = f"http://127.0.0.1:{plain}"
    config = {
        "workers": workers,
        "prices": {"openai": {"bench": {"input": 2.5, "output": 10}}},
        "openai": {
            "api_url": url,
            "api_keys": keys,
            "chat_web_url": url,
            "web_sessions": sessions,
            "cookie_path": str(folder / "sessions"),
        },
        "claude": {"api_url": url, "api_keys": keys, "web_url": url, "web_sessions": sessions},
        "google_gemini": {"api_url": url, "api_keys": keys},
        "upstreams": [
            {"name": "only", "api_url": f"{url}/v1", "api_keys": keys, "like": "responses"}
        ],
    }
    for label, port, url, ledger in (
        ("gateway", gateway, f"http://127.0.0.1:{plain}", str(folder / "usage.db")),
        ("gateway-tls", free_port(), f"https://localhost:{tls}", str(folder / "usage-tls.db")),
        (NO_LEDGER, free_port(), f"http://127.0.0.1:{plain}", "off"),
    ):
        token = {"id": "bench", "val": TOKEN}
        if has_budgets and ledger != "off":
            token |= {"budget": BUDGET}
        config |= {"port": f"127.0.0.1:{port}", "ledger": ledger, "access": {"tokens": [token]}}
        config["openai"] = config["openai"] | {"api_url": url}
        file = folder / f"{label}.yaml"
        file.write_text(json.dumps(config))
        file.chmod(0o600)
        command = [sys.executable, str(ROOT / "run.py"), "-c", str(file)]
        env = {"SSL_CERT_FILE": str(pem)}
        servers[label] = Server(command, port, folder / f"{label}.log", env)
    for label, server in servers.items():
        took = server.wait()
        print(f"{label} answers after {took:.2f} s", file=sys.stderr)
    return servers


def measure(servers, wanted, asked):
    """All results by (scenario, server), one per round; nginx runs what is only copied."""
    found = {}
    for round_number in range(asked.rounds):
        for scenario in wanted:
            for peer in ("nginx", "gateway", NO_LEDGER)[: 3 if asked.ledger else 2]:
                if peer not in servers or (peer == "nginx" and not _is_copied(scenario)):
                    continue
                server = servers["gateway-tls" if peer == "gateway" and scenario.tls else peer]
                if round_number == 0:
                    drive(server, peer, scenario, 0.5, min(scenario.streams, 20), asked.heads)
                server.settle()
                before = server.cpu_us()
                result = drive(server, peer, scenario, asked.seconds, scenario.streams, asked.heads)
                server.settle()
                spent = server.cpu_us() - before
                done = max(result["ok"], 1)
                result["us"] = spent / done / (scenario.chunks or 1)
                result["mb"] = server.resident_mb()
                found.setdefault((scenario.name, peer), []).append(result)
                print(
                    f"round {round_number + 1} {scenario.name} {peer}: {result['us']:.1f} us, "
                    f"{result['per_second']:.0f}/s, errors {result['errors']} {result['samples']}",
                    file=sys.stderr,
                )
    return found


def _is_copied(scenario) -> bool:
    """Whether caller and upstream speak the same, so that nginx can do it too."""
    return scenario.family == "openai" or (
        scenario.family == "responses" and scenario.path == RESPONSES
    )


def drive(server, peer, scenario, seconds, streams, heads):
    """Runs the load generator once against a server and returns what it printed."""
    is_gateway = peer != "nginx"
    model = MODELS[scenario.family] if is_gateway else "bench"
    if scenario.family == "responses" and scenario.path == RESPONSES:
        model = "bench"
    if scenario.path in (MESSAGES, GEMINI) and "/" not in model:
        model = f"openai/{model}"  # a bare name would be Claude's or Gemini's
    path = scenario.path.format(model=model)
    if not is_gateway and not scenario.frames:
        path = "/v1/responses" if path == RESPONSES else "/v1/chat/completions"
    if not is_gateway and scenario.tls:
        path = "/tls" + path
    plan = {
        "port": server.port,
        "path": path,
        "model": model,
        "members": {"claude": {"type": "web"}} if scenario.family == "claude-web" else {},
        "headers": {"Authorization": f"Bearer {TOKEN}"} if is_gateway else {},
        "heads": heads,
        "connections": min(scenario.connections, streams or scenario.connections),
        "chunks": scenario.chunks,
        "delay_ms": scenario.delay_ms,
        "streams": streams,
        "seconds": seconds,
        "frames": scenario.frames,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", json.dumps(plan)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the load failed at {scenario.name} {peer}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def report(found, servers, asked) -> None:
    """Prints the table of medians."""

    def middle(name, peer, member):
        values = [r[member] for r in found.get((name, peer), []) if r[member] is not None]
        return statistics.median(values) if values else None

    def shown(value, digits=1):
        return "-" if value is None else f"{value:,.{digits}f}"

    print(f"\n{date.today()}, {cpu_model()}, {os.cpu_count()} cores, Linux {platform.release()},")
    print(f"CPython {platform.python_version()}, {packages()}, {nginx_version()},")
    print(
        f"{asked.workers} worker, {asked.rounds} rounds of {asked.seconds:.0f} s, medians, "
        f"{asked.heads} request heads.\n"
    )
    print("| | load | CPU µs | nginx µs | x nginx | first ms | age p50 / p99 ms | MB | errors |")
    print("|---|---|---|---|---|---|---|---|---|")
    for scenario in SCENARIOS:
        name = scenario.name
        us = middle(name, "gateway", "us")
        if us is None:
            continue
        # A translation is compared with nginx copying as many chunks.
        base = middle(name, "nginx", "us") or middle("S2", "nginx", "us")
        per = "request"
        if scenario.chunks:
            what = "frame" if scenario.frames else "chunk"
            per = f"{what}, {us * scenario.chunks:,.0f} per stream"
        first = middle(name, "gateway", "first_p50")
        ages = " / ".join(shown(middle(name, "gateway", f"age_{p}"), 2) for p in ("p50", "p99"))
        megabytes = middle(name, "gateway", "mb")
        errors = sum(r["errors"] for r in found[name, "gateway"])
        print(
            f"| {name} | {scenario.note} | {shown(us)} per {per} | {shown(base)} | "
            f"{shown(us / base if base else None)} | {shown(first)} | {ages} | "
            f"{shown(megabytes, 0)} | {errors} |"
        )
        if (without := middle(name, NO_LEDGER, "us")) is not None:
            cells = f"without ledger and budgets | {shown(without)}, {us / without:.3f}"
            print(f"| {name} | {cells} | | | | | |")


def cpu_model() -> str:
    """The CPU's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.machine()


def packages() -> str:
    """The versions of the packages that matter for speed."""
    from importlib.metadata import version

    return ", ".join(f"{n} {version(n)}" for n in ("sanic", "uvloop", "msgspec", "httptools"))


def nginx_version() -> str:
    """The version of nginx, as it says it."""
    if not shutil.which("nginx"):
        return "no nginx"
    done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    return done.stderr.strip().removeprefix("nginx version: ")


if __name__ == "__main__":
    sys.exit(main())
