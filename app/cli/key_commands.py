"""`run.py keys` and `run.py ping`: commands to the gateway that runs with this config.

`keys` lists and changes keys by /admin/keys on this machine, with `admin.token` where it is set.
`ping` checks /healthz, for containers and supervisors.
"""

import http.client
import json
import ssl
from typing import Any

from app.cli.table import as_table as aligned
from app.config.load import listen_address
from app.config.schema import Config

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where to find it, not to listen)
_PING_SECONDS = 2.0


class NotRunning(Exception):
    """No gateway of this version answers at the address."""


def request_keys(config: Config, order: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The status of all keys, or of the one key that `order` changes.

    Raises NotRunning, and ValueError with the gateway's error message.
    """
    host, port = _address(config)
    try:
        connection = _connection(config, host, port, 10)
        headers = {"authorization": f"Bearer {config.admin.token}"} if config.admin.token else {}
        body = None if order is None else json.dumps(order)
        connection.request("POST" if order else "GET", "/admin/keys", body, headers)
        reply = connection.getresponse()
        text = reply.read()
    except (OSError, http.client.HTTPException):
        raise NotRunning(
            f"no gateway answers at {host}:{port}; start it with this config first, "
            "or name the config it runs with by -c"
        ) from None
    try:
        answer = json.loads(text)
        if reply.status == 200:
            keys: list[dict[str, Any]] = answer["keys"]
            return keys
        message = answer["error"]["message"]
    except (ValueError, KeyError, TypeError):
        raise NotRunning(f"what answers at {host}:{port} is no gateway of this version") from None
    raise ValueError(message)


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


def as_table(keys: list[dict[str, Any]], now: float) -> str:
    """The keys as aligned columns; `now` is Unix seconds."""
    rows = [("pool", "id", "state", "uses", "last", "reason")]
    for key in keys:
        reason = key["why"]
        if key["state"] == "resting":
            reason += f"{', ' if reason else ''}{max(key['until'] - now, 0):.0f} s left"
        last = str(key["last_status"] or "-")
        name = key["id"] or "(the upstream)"
        rows.append((key["pool"], name, key["state"], str(key["uses"]), last, reason))
    return aligned(rows)
