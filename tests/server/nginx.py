"""A real nginx in front of gateways."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needed = pytest.mark.skipif(
    not shutil.which("nginx"), reason="nginx not found: apt install nginx-light"
)

_MAIN = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {http}
}}
"""


def wait_port(port: int, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, port
            time.sleep(0.02)


@contextmanager
def nginx(folder: Path, http: str, port: int) -> Iterator[None]:
    """With this inside of `http {}`, which makes it listen on this port."""
    folder.mkdir()
    file = folder / "nginx.conf"
    # Started by root it would serve as somebody who may not look into a test's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(_MAIN.format(folder=folder, user=user, http=http))
    process = subprocess.Popen(["nginx", "-c", str(file), "-e", str(folder / "nginx.err")])
    try:
        wait_port(port)
        yield
    finally:
        process.terminate()
        process.wait(10)
