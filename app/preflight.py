"""What only this machine can tell before the start: is the certificate good, is the port free?"""

import errno
import socket
import ssl
from collections.abc import Iterator

from app.wire.settings import Config
from app.yaml_nodes import Unreadable, read_file


def certificate_mistakes(config: Config) -> Iterator[tuple[str, str]]:
    """Pairs of a config key and what is wrong with it here; so does the next."""
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


def port_mistakes(config: Config, host: str, port: int) -> Iterator[tuple[str, str]]:
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
