"""Pictures in ChatGPT web's answers: the gateway's links to them, and how they are fetched.

    /gptimage/<file>?index=<session>&conversation_id=<id>&sig=<mac>    a configured session's file
    /gptimage/<file>?conversation_id=<id>                              the caller's own; needs their
                                                                       Authorization when opened
    /gptimage/file-<id>?se=...&sig=<signature of the storage>          the storage's own address

A browser that shows Markdown sends no credentials, so a link to a configured session's picture
carries a MAC keyed by that session: only this gateway could have made it, and it opens one file.
"""

import hashlib
import hmac
import re
from urllib.parse import quote, urlencode, urlsplit

from app.config.schema import Config
from app.wire.provider import Key
from app.wire.upstream import UpstreamRequest
from providers.openai.web_session import origin, proxy, session_request

STORAGE = "https://files.oaiusercontent.com"
FILE = re.compile(r"file[-_][A-Za-z0-9_-]{1,128}\Z")
_POINTER = re.compile(r"(?:file-service|sediment)://(file[-_][A-Za-z0-9_-]{1,128})\Z")
_CONVERSATION = re.compile(r"[A-Za-z0-9-]{1,64}\Z")


def file_of(pointer: str) -> str | None:
    """The file that an asset pointer names; None for anything that is not a plain file id."""
    # `sediment://file_..#file_..#p_0.jpg` has been seen: the first name is the file.
    found = _POINTER.match(pointer.partition("#")[0])
    return found[1] if found else None


def link(pointer: str, conversation_id: str, key: Key) -> str | None:
    """The path and query under which the gateway shows the picture."""
    file = file_of(pointer)
    if file is None:
        return None
    query = {"index": key.id} if key.id else {}
    if conversation_id:
        query["conversation_id"] = conversation_id
    if key.id:
        query["sig"] = mac(file, conversation_id, key)
    return f"/gptimage/{file}" + (f"?{urlencode(query)}" if query else "")


def mac(file: str, conversation_id: str, key: Key) -> str:
    """The MAC of a link, 32 hex digits, keyed by the session's token."""
    said = f"gptimage\n{key.id}\n{file}\n{conversation_id}".encode()
    return hmac.new(key.val.encode(), said, hashlib.sha256).hexdigest()[:32]


def is_genuine(sig: str, file: str, conversation_id: str, key: Key) -> bool:
    """Whether `sig` is the MAC of this link; takes the same time for any answer."""
    return hmac.compare_digest(sig.encode(), mac(file, conversation_id, key).encode())


def is_storage_query(query: str) -> bool:
    """Whether a link carries the storage's own signed query."""
    names = {part.partition("=")[0] for part in query.split("&")}
    return {"se", "sig"} <= names


def download_path(file: str, conversation_id: str) -> str | None:
    """The backend's path that returns the URL of a file; None when the link lacks an id."""
    if file.startswith("file-"):
        return f"/backend-api/files/{file}/download"
    if not _CONVERSATION.match(conversation_id):
        return None
    return f"/backend-api/conversation/{quote(conversation_id)}/attachment/{file}/download"


_PICTURES = "image/avif,image/webp,image/apng,image/*,*/*;q=0.8"


def picture_request(config: Config, address: str) -> UpstreamRequest:
    """Fetches a picture at the storage's signed URL, without credentials."""
    return UpstreamRequest(
        method="GET",
        url=address,
        headers=[("Accept", _PICTURES), ("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors")],
        via="browser",
        proxy=proxy(config),
    )


def address_request(config: Config, key: Key, address: str) -> UpstreamRequest | None:
    """Fetches a picture at the URL that the backend named.

    None unless the URL is the backend's own or the storage's.
    """
    own = origin(config) + "/"
    if address.startswith(own):
        return session_request(config, key, "/" + address[len(own) :])
    host = urlsplit(address).hostname or ""
    is_storage = host == "files.oaiusercontent.com" or host.endswith(".oaiusercontent.com")
    if address.startswith("https://") and is_storage:
        return picture_request(config, address)
    return None
