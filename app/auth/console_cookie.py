"""The console's cookie: the end of the session, and a signature by `admin.token` over it.

It needs no store: every worker of every host with this token can check it, and a changed token
makes each cookie invalid.
"""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256

from app.auth.authenticate import equal_secrets

NAME = "any_proxy_console"
SECONDS = 12 * 3600
_PURPOSE = b"any-proxy console session\0"


def issue(secret: str, now: float) -> str:
    """The value of a cookie that is valid for SECONDS from `now` (Unix seconds)."""
    end = str(int(now) + SECONDS)
    return f"{end}.{_signature(secret, end)}"


def is_valid(secret: str, value: str, now: float) -> bool:
    """Whether `issue` made this value with this secret, and its end has not come yet."""
    end, _, signature = value.partition(".")
    if not (end.isascii() and end.isdecimal() and len(end) < 16):
        return False
    return equal_secrets(signature, _signature(secret, end)) and now < int(end)


def _signature(secret: str, end: str) -> str:
    key = sha256(_PURPOSE + secret.encode("utf-8", "surrogateescape")).digest()
    return urlsafe_b64encode(hmac.digest(key, end.encode(), "sha256")).decode().rstrip("=")
