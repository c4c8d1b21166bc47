"""Which config keys a reload can change.

The rest is bound when the process starts: the listening address, TLS, the Discord session.
"""

from typing import Any

import msgspec

from app.config.load import listen_address
from app.config.schema import Config


def keep_unreloadable(running: Config, wanted: Config) -> tuple[Config, list[str]]:
    """The wanted config with the running values of keys that only a restart can change.

    Also returns those keys whose values differ.
    """
    kept = []
    replaced: dict[str, Any] = {}
    if listen_address(running) != listen_address(wanted):
        kept.append("port" if running.host == wanted.host else "host")
        replaced |= {"host": running.host, "port": running.port}
    if running.https_info != wanted.https_info:
        kept.append("https_info")
        replaced["https_info"] = running.https_info
    if running.coze.discord != wanted.coze.discord:
        # The bridge holds the only Discord session, and the answers that are in progress in it.
        kept.append("coze.discord")
        replaced["coze"] = msgspec.structs.replace(wanted.coze, discord=running.coze.discord)
    return msgspec.structs.replace(wanted, **replaced), kept
