"""A PostgreSQL server of a test's own, from the machine's package."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp

from tests.server.running import free_port

_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # not on PATH there


def _program(name: str) -> str | None:
    found = [str(folder / name) for folder in _DEBIAN if (folder / name).exists()]
    return found[-1] if found else shutil.which(name)


INITDB, PG_CTL = _program("initdb"), _program("pg_ctl")
MISSING = "no PostgreSQL here: apt-get install postgresql" if not (INITDB and PG_CTL) else ""


class Postgres:
    """One server with a folder of its own; `address` is what the config's `ledger` names."""

    def __init__(self) -> None:
        # Not below pytest's folder, which it closes to other users whenever one starts.
        self._folder, self._port = Path(mkdtemp(prefix="postgres-")), free_port()
        self.address = f"postgresql://gateway@127.0.0.1:{self._port}/postgres"
        if os.geteuid() == 0:  # it does not run as root
            shutil.chown(self._folder, "postgres")
        self._run(INITDB, "-A", "trust", "-U", "gateway", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        options = f"-p {self._port} -h 127.0.0.1 -k '' -c fsync=off -c max_connections=30"
        self._run(PG_CTL, "start", "-w", "-l", str(self._folder / "log"), "-o", options)

    def stop(self) -> None:
        self._run(PG_CTL, "stop", "-m", "immediate")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str | None, *arguments: str) -> None:
        assert program is not None
        subprocess.run(
            [program, "-D", str(self._folder / "data"), *arguments],
            check=True,
            capture_output=True,
            cwd=self._folder,
            timeout=60,
            user="postgres" if os.geteuid() == 0 else None,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )
