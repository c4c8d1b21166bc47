"""The image of the Dockerfile, really built, and run as a container runtime would run it.

Built by buildah, which needs no daemon, on a base that debootstrap makes: Debian with its python3.
Run in namespaces of its own with what the image says of user, environment and command: process 1 of
its process namespace, a root that cannot be written, /tmp in memory, a folder mapped to /app/data.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.load import CHAT
from tests.server.running import free_port, until

ROOT = Path(__file__).parents[2]
PROGRAMS = ("buildah", "debootstrap", "unshare", "nsenter", "setpriv")
MISSING = [name for name in PROGRAMS if not shutil.which(name)]
UID = 10001
OURS = 60e6  # bytes that come to the base at most
WHOLE = 150e6
TOKEN = "a-token-of-one-caller"
HEADERS = {"authorization": f"Bearer {TOKEN}"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        bool(MISSING), reason=f"apt install buildah debootstrap ({MISSING} missing)"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap and mounts need root"),
]
# What Debian's own images leave out of a debootstrap.
NOT_IN_IMAGES = (
    "usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*",
    "var/cache/apt/archives/*.deb", "var/cache/apt/*.bin", "var/lib/apt/lists/*", "var/log/*",
)  # fmt: skip


def run(*command, **more) -> str:
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )
    if done.returncode:  # no assert: it would shorten what the command said
        pytest.fail(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


class Builder:
    """buildah with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.words = ("buildah", "--root", folder / "store", "--runroot", folder / "run",
                      "--storage-driver", "vfs")  # fmt: skip

    def __call__(self, *words, **more) -> str:
        env = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        return run(*self.words, *words, env=env, **more).strip()

    def mounted(self, image: str) -> Path:
        container = self("from", "--pull=never", image).splitlines()[-1]
        return Path(self("mount", container).splitlines()[-1])


class Image:
    """The built image: its files, those of its base, and what it says of itself."""

    def __init__(self, folder: Path) -> None:
        builder = Builder(folder)
        debian = folder / "debian"
        run(
            "debootstrap",
            "--variant=minbase",
            "--include=python3,ca-certificates",
            "bookworm",
            debian,
        )
        run("sh", "-c", f"rm -rf {' '.join(NOT_IN_IMAGES)}", cwd=debian)
        run("find", debian, "-name", "__pycache__", "-prune", "-exec", "rm", "-rf", "{}", "+")
        container = builder("from", "scratch")
        run("cp", "-a", f"{debian}/.", builder("mount", container))
        builder("commit", "-q", "--rm", container, "localhost/base")
        shutil.rmtree(debian)
        # As `docker build .` would, but for the base. The machine's authorities: a registry may be
        # reached through a proxy that only they know.
        builder("bud", "--pull=never", "--format", "docker", "--network", "host",
                "-v", "/etc/ssl/certs:/etc/ssl/certs:ro", "--build-arg", "BASE=localhost/base",
                "-t", "localhost/any-proxy", ".", cwd=ROOT)  # fmt: skip
        self.base = builder.mounted("localhost/base")
        self.root = builder.mounted("localhost/any-proxy")
        said = json.loads(builder("inspect", "--type", "image", "localhost/any-proxy"))
        self.config = said["Docker"]["config"]
        for stage in said["Docker"]["history"]:
            print(stage.get("created_by", "")[:100])


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    yield Image(folder)
    shutil.rmtree(folder, ignore_errors=True)


def files(root: Path) -> dict[str, os.stat_result]:
    return {
        os.path.relpath(os.path.join(folder, name), root): os.lstat(os.path.join(folder, name))
        for folder, _, names in os.walk(root)
        for name in names
    }


def size_of(found: dict[str, os.stat_result]) -> int:
    return sum(stat.st_size for stat in found.values())


def test_it_is_small_and_holds_no_installer(image):
    base, whole = files(image.base), files(image.root)
    ours = {
        name: stat.st_size
        for name, stat in whole.items()
        if name not in base or base[name].st_mtime_ns != stat.st_mtime_ns
    }
    by_package: dict[str, int] = {}
    for name, size in ours.items():
        found = re.search(r"site-packages/([^/]+)", name)
        label = found[1] if found else name.split("/")[0] + "/..."
        by_package[label] = by_package.get(label, 0) + size
    for label, size in sorted(by_package.items(), key=lambda each: -each[1])[:20]:
        print(f"{size / 1e6:6.1f} MB  {label}")
    print(f"{sum(ours.values()) / 1e6:6.1f} MB  what comes to the base")
    print(f"{size_of(base) / 1e6:6.1f} MB  the base")
    print(f"{size_of(whole) / 1e6:6.1f} MB  the whole")
    assert sum(ours.values()) < OURS
    assert size_of(whole) < WHOLE
    assert not [name for name in whole if re.match(r"usr/bin/(apt|perl|pip)|.*/ensurepip/", name)]
    assert not [name for name in ours if re.search(r"site-packages/(pip|setuptools)/", name)]
    assert not [name for name in ours if "app/simulator" in name or "tests/server" in name]
    assert [name for name in ours if name.endswith("app/http/console/index.html")]


# Prints what is amiss with the root that it is run in.
EXAMINE = """
import os, sys
import app.cli.check_keys, app.cli.running_gateway, app.pool.redis_sync, app.process.server
for name, module in list(sys.modules.items()):
    file = getattr(module, "__cached__", None)
    if file and not os.path.exists(file):
        print("no bytecode of", name)
import glob, ssl, subprocess, zoneinfo
import app.accounting.postgres_store, app.telemetry.traces, curl_cffi, discord, sqlite3
if len(ssl.create_default_context().get_ca_certs()) < 100:
    print("no certificates")
zoneinfo.ZoneInfo("Asia/Shanghai")
for pattern in ("/usr/bin/*", "/usr/lib/**/*.so*", "/usr/local/lib/**/*.so*", "/app/**/*.so*"):
    for file in glob.glob(pattern, recursive=True, include_hidden=True):
        said = subprocess.run(["ldd", file], capture_output=True, text=True).stdout
        if "not found" in said:
            print(file, "lacks a library:", said)
"""


def test_what_is_left_of_the_base_suffices(image):
    said = run("chroot", image.root, "/app/.venv/bin/python", "-c", EXAMINE, cwd="/")
    assert said == ""
    modes = {name: (image.root / name).stat() for name in ("tmp", "app/data", "app/etc/c.yaml")}
    assert (modes["tmp"].st_mode & 0o7777, modes["tmp"].st_uid) == (0o1777, 0)
    assert modes["app/data"].st_uid == UID
    assert modes["app/etc/c.yaml"].st_mode & 0o777 == 0o644
    packages = (image.root / "var/lib/dpkg/status").read_text()
    assert re.search(r"^Package: libc6\nStatus: install ok installed$", packages, re.M)
    assert not re.search(r"^Package: apt$", packages, re.M)


class Container:
    """The image's command as process 1."""

    def __init__(self, image: Image, folder: Path, config: dict, data: Path) -> None:
        self.image, self.root = image, image.root
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (etc := folder / "etc").mkdir(exist_ok=True)
        file = etc / "c.yaml"
        file.write_text(json.dumps({"port": f"127.0.0.1:{self.port}", **config}))
        os.chown(file, UID, UID)
        file.chmod(0o400)
        self.out = folder / f"out-{self.port}.log"
        script = f"""
            set -e
            mount --bind {self.root} {self.root}
            mount -o remount,bind,ro {self.root}
            mount -t proc proc {self.root}/proc
            mount --rbind /dev {self.root}/dev
            mount -t tmpfs tmpfs {self.root}/tmp
            mount --bind {etc} {self.root}/app/etc
            mount --bind {data} {self.root}/app/data
            exec {" ".join(self.inside(image.config["Entrypoint"]))}
        """
        command = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script)
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        self.pid = int(until(self._child, told=self.told))

    def _child(self) -> str:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return path.read_text().strip()

    def inside(self, words: list[str]) -> list[str]:
        """The command that runs these words as the image says, in its own root."""
        user = self.image.config["User"]
        environment = self.image.config["Env"]
        return ["chroot", f"--userspec={user}", str(self.root), "/usr/bin/env", "-i",
                f"--chdir={self.image.config['WorkingDir']}", *environment,
                "setpriv", "--no-new-privs", "--inh-caps=-all", *words]  # fmt: skip

    def execute(self, *words: str) -> subprocess.CompletedProcess:
        """What `docker exec` does."""
        enter = ("nsenter", "-t", str(self.pid), "-m", "-p")
        return subprocess.run(
            [*enter, *self.inside([*words])], capture_output=True, text=True, timeout=60
        )

    def told(self) -> str:
        return self.out.read_text()[-3000:]

    def wait(self) -> "Container":
        def ready() -> bool:
            assert self.process.poll() is None, self.told()
            with suppress(httpx.HTTPError):
                return httpx.get(f"{self.url}/readyz").status_code == 200
            return False

        until(ready, 30, self.told, every=0.1)
        return self

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


@contextmanager
def container(image: Image, folder: Path, config: dict, data: Path):
    one = Container(image, folder, config, data)
    try:
        yield one.wait()
    finally:
        # --kill-child does not reach a process that has changed its user since.
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
        one.process.wait(10)


@pytest.fixture
def config(simulator) -> dict:
    found = config_for(simulator.url, access={"tokens": [{"id": "one", "val": TOKEN}]})
    return found | {"workers": 2, "admin": {"token": "operator-token-0123456789"}}


def chat(one: Container) -> httpx.Response:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(one.url + CHAT, json=body, headers=HEADERS, timeout=30)


def test_it_serves_drains_and_keeps_what_it_knows(image, config, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, UID, UID)
    kind, *health = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    with container(image, tmp_path, config, data) as one:
        status = Path(f"/proc/{one.pid}/status").read_text()
        assert re.search(r"^NSpid:\t\d+\t1$", status, re.M)
        assert re.search(rf"^Uid:\t{UID}\t{UID}\t{UID}\t{UID}$", status, re.M)
        assert re.search(r"^CapEff:\t0+$", status, re.M)
        assert one.execute("touch", "/app/x").returncode != 0
        healthy = one.execute(*health)
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert "warning" not in one.told()
        assert chat(one).status_code == 200
        assert one.execute("any-proxy", "keys", "disable", "k2").returncode == 0
        assert disabled(one) == ["k2"]

        answered = {}

        def stream() -> None:
            body = {"model": "sim-long-20+drip-100", "stream": True,
                    "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip
            with httpx.stream("POST", one.url + CHAT, json=body, headers=HEADERS) as response:
                pieces = response.iter_text()
                answered["first"] = next(pieces)
                answered["rest"] = "".join(pieces)

        caller = threading.Thread(target=stream)
        caller.start()
        until(lambda: "first" in answered)
        one.terminate()
        until(lambda: refuses(one))
        caller.join(30)
        assert answered["rest"].rstrip().endswith("data: [DONE]")
        assert one.process.wait(30) == 0, one.told()

    with container(image, tmp_path, config, data) as again:
        assert disabled(again) == ["k2"]
        again.terminate()
        assert again.process.wait(30) == 0


def refuses(one: Container) -> bool:
    """Whether it drains: no longer ready, or no longer listening."""
    try:
        return httpx.get(f"{one.url}/readyz").status_code == 503
    except httpx.HTTPError:
        return True


def disabled(one: Container) -> list[str]:
    listed = one.execute("any-proxy", "keys", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return [key["id"] for key in json.loads(listed.stdout) if key["state"] == "disabled"]


def test_a_mapped_folder_of_somebody_else_is_told_with_the_cure(image, config, tmp_path):
    (data := tmp_path / "data").mkdir()
    with container(image, tmp_path, config, data) as one:
        assert chat(one).status_code == 200
        assert f"chown it to uid {UID}" in one.told()
        one.terminate()
        assert one.process.wait(30) == 0
