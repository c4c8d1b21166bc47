"""What routing and the engine need of a request, read without a look at its messages."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from app.wire.chat import not_json, read_members
from app.wire.errors import GatewayError, from_validation
from app.wire.kept import Kept, Maker
from app.wire.surrogates import mend

# What msgspec raises for another shape, no JSON, broken UTF-8 and absurd nesting.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
T = TypeVar("T")


class Asked(Struct, kw_only=True):
    """A request as its front's `glance` reads it.

    `members` are the gateway's own top-level members by family name ("claude", "bing" ...), each as
    JSON. `own_names` are all top-level names that are the gateway's, "provider" included: they
    never travel upstream. `options` belongs to the front alone. `session_id` is what the client
    calls its conversation, safe to log. `file_bytes` are those of the body that are a file's, and
    so say nothing of how many tokens it has. `kept` are earlier answers that the body names, by
    their ids; `maker` is who has given the one that it goes on from.
    """

    body: bytes
    model: str = ""  # as the caller wrote it, "" for none
    provider: str | None = None  # an explicit choice; wins over a prefix of `model`
    stream: bool = False
    members: Mapping[str, Raw] = {}
    own_names: tuple[str, ...] = ()
    query: str = ""  # the caller's, for an upstream of the same wire
    # Which method of its API and in which version, where the path tells: "countTokens", "v1beta".
    method: str = ""
    api_version: str = ""
    options: Any = None
    session_id: str = ""
    wants_nothing: bool = False  # an answer of no tokens: whoever has this wire answers that
    kept: Mapping[str, Kept] = {}
    maker: Maker | None = None
    file_bytes: int = 0

    @property
    def text_bytes(self) -> int:
        """How many bytes of the body may be tokens."""
        return len(self.body) - self.file_bytes

    def carried(self, drop: Collection[str] = ()) -> bytes:
        """A JSON body as it goes upstream: without the gateway's own members and those of `drop`;
        the very same bytes where there are none."""
        names = {*self.own_names, *drop}
        if not names:
            return self.body
        members = read_members(self.body)
        if names.isdisjoint(members):
            return self.body
        return msgspec.json.encode({n: v for n, v in members.items() if n not in names})

    def member(self, name: str, shape: type[T]) -> T | None:
        """The gateway's own member `name` as its family's struct, None where it is absent or null.

        Raises GatewayError 400 whose `param` is the path of what is wrong.
        """
        raw = self.members.get(name)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(raw, type=shape | None)
        except msgspec.ValidationError as error:
            wrong = from_validation(error)
            wrong.param = f"{name}.{wrong.param}" if wrong.param else name
            raise wrong from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise not_json(bytes(raw), error) from None  # a Raw has not been looked at before


def read_mended(body: bytes, read: Callable[[bytes], T]) -> T:
    """What `read` makes of the body. Raises GatewayError 400 for what it cannot decode.

    Clients cut texts in the middle of a character. Such a body is mended, as no half of one can be
    read.
    """
    try:
        return read(body)
    except UNREADABLE as error:
        mended = mend(body)
        if mended is body:
            raise as_bad_request(error, body) from None
    try:
        return read(mended)
    except UNREADABLE as error:
        raise as_bad_request(error, mended) from None


def as_bad_request(error: Exception, body: bytes) -> GatewayError:
    """The 400 for a body that msgspec refused, to be raised."""
    if isinstance(error, msgspec.ValidationError):
        return from_validation(error)
    return not_json(body, error)
