"""Reload as a transaction: what a new config may change, and how the workers hear of it.

Only the main process reads the file and decides. It starts workers with the new config beside the
old ones, and lets the old ones go when all the new ones serve; a bad file, or a new worker that
cannot start, changes nothing. A worker asks by SIGHUP, as an operator would, and finds the
outcome on the board, which is shared memory that only the main process writes.
"""

from typing import Any

import msgspec

from app.config.load import listen_address
from app.config.schema import Config


def settle(running: Config, wanted: Config) -> tuple[Config, list[str]]:
    """The config that workers can be given now, and the keys whose change it leaves out."""
    kept = []
    replaced: dict[str, Any] = {}
    if listen_address(running) != listen_address(wanted):
        kept.append("port" if running.host == wanted.host else "host")
        replaced |= {"host": running.host, "port": running.port}
    if running.https_info != wanted.https_info:
        kept.append("https_info")
        replaced["https_info"] = running.https_info
    if running.coze.discord != wanted.coze.discord:
        # The bridge holds the one Discord session, with the answers that are under way in it.
        kept.append("coze.discord")
        replaced["coze"] = msgspec.structs.replace(wanted.coze, discord=running.coze.discord)
    return msgspec.structs.replace(wanted, **replaced), kept
