"""Startup checks, which depend on this machine: the certificate, the port, the data folders.

Each check yields pairs of a config key and the problem with it.
"""

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from app.config.schema import Config
from app.config.yaml_tree import Unreadable, read_file, user


def certificate_mistakes(config: Config) -> Iterator[tuple[str, str]]:
    """(config key, problem) pairs for `https_info`: the files, their content, their match."""
    info, found = config.https_info, []
    if not info.enable:
        return
    for key, path, what in (
        ("https_info.pem_file", info.pem_file, "CERTIFICATE"),
        ("https_info.key_file", info.key_file, "PRIVATE KEY"),
    ):
        try:
            data = read_file(path) if path else b""
        except Unreadable as error:
            found.append((key, error.message.replace(" YAML file after -c", " PEM file")))
            continue
        if not path:
            found.append((key, "needed while https_info.enable is true; write a PEM file's path"))
        elif b"-----BEGIN" not in data or what.encode() not in data:
            found.append((key, f"holds no {what} in PEM form; write the path of one that does"))
        elif b"ENCRYPTED" in data:
            found.append((key, "is encrypted; write the path of a key without a passphrase"))
    yield from found
    if not found:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(
                info.pem_file, info.key_file, password=""
            )  # never ask a terminal
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or "unreadable"
            message = f"the certificate and key_file cannot be used together ({reason})"
            yield "https_info.pem_file", f"{message}; write a pair that belongs together"
            return
        # Sanic decodes it in this way, and does not start without names.
        decode = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
        if "subjectAltName" not in decode(info.pem_file):
            message = "names no host in its subjectAltName, and clients look for them nowhere else"
            yield "https_info.pem_file", f"{message}; write a certificate that does"


def ledger_mistakes(config: Config) -> Iterator[tuple[str, str]]:
    """(config key, problem) pairs for `ledger`: what PostgreSQL needs is installed apart."""
    if "://" in config.ledger and find_spec("psycopg") is None:
        yield "ledger", "PostgreSQL needs psycopg: pip install -r requirements-postgres.txt"


def traces_mistakes(config: Config) -> Iterator[tuple[str, str]]:
    """(config key, problem) pairs for `traces`: the SDK of OpenTelemetry is installed apart."""
    if config.traces.endpoint:
        try:
            found = find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        except ModuleNotFoundError:
            found = None
        if found is None:
            problem = "needs OpenTelemetry's SDK: pip install -r requirements-otel.txt"
            yield "traces.endpoint", problem


def port_mistakes(config: Config, host: str, port: int) -> Iterator[tuple[str, str]]:
    """(config key, problem) pairs for the listening address: found by binding to it."""
    where = "host" if config.host else "port"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                yield "port", f"{port} is taken by another program; stop it or write another port"
            elif error.errno == errno.EACCES:
                yield "port", f"this user may not listen on {port}; write one above 1023"
            else:
                reason = error.strerror or "no such address"
                yield where, f"cannot listen there ({reason}); write an address of this machine"


def privacy_warnings(config: Config) -> Iterator[tuple[str, str]]:
    """(config key, notice) pairs for what is kept of callers' own words."""
    if config.record_calls != "off":
        which = "calls that fail" if config.record_calls == "errors" else "all chat calls"
        yield (
            "record_calls",
            f"prompts and answers of {which} are written to {config.record_calls_path}; "
            "tell your callers, or write off",
        )


def folder_warnings(config: Config) -> Iterator[tuple[str, str]]:
    """(config key, problem) pairs for folders that cannot be written.

    The gateway runs all the same, and loses at a restart what it would have kept there.
    """
    openai, claude = config.openai, config.claude
    paths = {"state_path": Path(config.state_path).parent}
    if config.ledger != "off" and "://" not in config.ledger:
        paths["ledger"] = Path(config.ledger).parent
    if openai.web_sessions or claude.web_sessions or config.hars_path:
        paths["openai.cookie_path"] = Path(openai.sessions_path)
        paths["openai.image_path"] = Path(openai.image_path)
    reported = set()
    for key, folder in paths.items():
        while not os.path.exists(folder) and folder != folder.parent:  # Path.exists() may raise
            folder = folder.parent
        if folder in reported or os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            continue
        reported.add(folder)
        remedy = f"chown it to uid {os.geteuid()}"
        if folder.stat().st_uid == os.geteuid():
            remedy = "mount it writable, or chmod u+wx it"
        message = f"{user()} cannot write in {folder.absolute()}, so it is lost at the next start"
        yield key, f"{message}; {remedy}, or write another path"
