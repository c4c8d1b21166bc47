"""Sets up Python's logging: format, level and redaction of every record."""

import logging
import time
from typing import Any

import msgspec

from app.telemetry.log_writer import writer_of
from app.telemetry.redaction import Redactor, redact


class _Handler(logging.Handler):
    """Writes records to stderr without blocking on its reader."""

    def __init__(self) -> None:
        super().__init__()
        self._writer = writer_of(2)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # logging's own handleError prints the arguments, maybe secrets
            fields = {
                "name": record.name,
                "levelname": "ERROR",
                "levelno": logging.ERROR,
                "msg": f"a message cannot be written ({type(error).__name__})",
            }
            line = self.format(logging.makeLogRecord(fields))
        self._writer.put([line.encode("utf-8", "backslashreplace") + b"\n"])


class _Formatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self, form: str, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self._json, self._redact = form == "json", redact

    def format(self, record: logging.LogRecord) -> str:
        if not self._json:
            return self._redact(super().format(record))
        line: dict[str, Any] = {
            "time": self.formatTime(record, self.datefmt),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = self._redact(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


def configure(level: str, form: str, secrets: frozenset[str]) -> None:
    """Sends every logger of this process through one redacting handler to stderr.

    `form` is "json" or "text"; `secrets` are those of the config.
    """
    handler = _Handler()
    redact.set_config_secrets(secrets)  # those of an old config are still redacted
    handler.setFormatter(_Formatter(form, redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("sanic", "sanic.root", "sanic.error", "sanic.server", "sanic.websockets"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(level.upper())
    # Libraries log every request at info.
    for name in ("httpx", "httpcore", "websockets", "asyncio", "hpack"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    if level.lower() != "debug":
        logging.getLogger("sanic.root").setLevel(max(logging.WARNING, root.level))
