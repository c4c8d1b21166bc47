"""Requests of commands to the gateway that runs with this config.

On this machine, at the effective address, with TLS if the config says so, and with `admin.token`
where it is set.
"""

import http.client
import json
import ssl
from typing import Any

from app.cli.failure import CommandFailed
from app.config.load import listen_address
from app.config.schema import Config

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where to find it, not to listen)
_PING_SECONDS = 2.0
_ADMIN_SECONDS = 10.0
_RELOAD_SECONDS = 75.0  # the gateway itself gives up after a minute


class NotRunning(CommandFailed):
    """No gateway of this version answers at the address."""


def request_keys(config: Config, order: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The status of all keys, or of the one key that `order` changes.

    Raises NotRunning, and CommandFailed with the gateway's error message.
    """
    status, answer = request(config, "POST" if order else "GET", "/admin/keys", order)
    if status != 200:
        raise CommandFailed(answer["error"]["message"])
    keys: list[dict[str, Any]] = answer["keys"]
    return keys


def request_reload(config: Config) -> tuple[int, dict[str, Any]]:
    """Status and answer of a reload: `ok`, `message`, `problems`, `warnings`, `kept`.

    Raises NotRunning, and CommandFailed when the reload was refused before it began.
    """
    status, answer = request(config, "POST", "/admin/reload", seconds=_RELOAD_SECONDS)
    if "ok" not in answer:
        raise CommandFailed(answer["error"]["message"])
    return status, answer


def request(
    config: Config, method: str, path: str, body: Any = None, seconds: float = _ADMIN_SECONDS
) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one request to a path of operators; `seconds` limit each pause.

    An answer that is not 200 has an error message. Raises NotRunning.
    """
    host, port = _address(config)
    headers = {"authorization": f"Bearer {config.admin.token}"} if config.admin.token else {}
    try:
        connection = _connection(config, host, port, seconds)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        text = reply.read()
    except (OSError, http.client.HTTPException):
        raise NotRunning(
            f"no gateway answers at {host}:{port}; start it with this config first, "
            "or name the config it runs with by -c"
        ) from None
    try:
        answer: dict[str, Any] = json.loads(text)
        if reply.status != 200:
            _ = answer["error"]["message"]
    except (ValueError, KeyError, TypeError):
        raise NotRunning(f"what answers at {host}:{port} is no gateway of this version") from None
    return reply.status, answer


def ping(config: Config) -> None:
    """Raises NotRunning unless a worker answers /healthz with 200."""
    host, port = _address(config)
    try:
        connection = _connection(config, host, port, _PING_SECONDS)
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotRunning(f"no gateway answers at {host}:{port} ({error})") from None
    if status != 200:
        raise NotRunning(f"what answers at {host}:{port} is not alive: status {status}")


def _address(config: Config) -> tuple[str, int]:
    host, port = listen_address(config)
    return _ANY.get(host, host), port


def _connection(config: Config, host: str, port: int, timeout: float) -> http.client.HTTPConnection:
    if not config.https_info.enable:
        return http.client.HTTPConnection(host, port, timeout=timeout)
    # The certificate names the public host, not this address: the file itself is trusted instead.
    context = ssl.create_default_context(cafile=config.https_info.pem_file)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
