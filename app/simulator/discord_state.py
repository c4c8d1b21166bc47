"""What the simulated Discord holds: messages, accounts, gateway sessions with their events."""

import asyncio
from collections import deque
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct

JSON = dict[str, Any]
encode = msgspec.json.encode
GUILD = "1100000000000000001"
MESSAGE_CONTENT = 1 << 15
KEPT_MESSAGES = 5000
KEPT_EVENTS = 2000  # per session, for RESUME
_ids = count(1_200_000_000_000_000_000)


class Session(Struct, eq=False):
    """One gateway session: its connection while it has one, and its last events for a RESUME."""

    id: str
    intents: int
    seq: int = 0
    sent: deque[tuple[int, str]] = msgspec.field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    ws: Any = None
    url: str = ""


class State:
    """Messages, sessions, and the recent posts of each account."""

    def __init__(self) -> None:
        self.messages: dict[str, JSON] = {}
        self.nonces: dict[tuple[str, str], str] = {}
        self.sessions: dict[str, Session] = {}
        self.posts: dict[str, list[float]] = {}
        self.identified = 0
        self.answering: set[asyncio.Task[None]] = set()

    def put(self, message: JSON) -> None:
        """Adds or replaces a message; the oldest are dropped."""
        self.messages[message["id"]] = message
        while len(self.messages) > KEPT_MESSAGES:
            del self.messages[next(iter(self.messages))]

    async def dispatch(self, name: str, data: JSON) -> None:
        """Sends an event to every session, now or at its RESUME; content only with the intent."""
        for session in list(self.sessions.values()):
            told = data
            if name.startswith("MESSAGE") and not session.intents & MESSAGE_CONTENT:
                empty: JSON = {"content": "", "embeds": [], "attachments": [], "components": []}
                told = {**data, **{n: v for n, v in empty.items() if n in data}}
            await send_event(session, name, told)


state = State()


async def send_event(session: Session, name: str, data: JSON) -> None:
    """Numbers an event, keeps it for a RESUME, and sends it when the session is connected."""
    session.seq += 1
    text = encode({"t": name, "s": session.seq, "op": 0, "d": data}).decode()
    session.sent.append((session.seq, text))
    if session.ws is not None:
        with suppress(Exception):  # a lost connection: RESUME brings it
            await session.ws.send(text)


def user(id: str, name: str, is_bot: bool) -> JSON:
    """A Discord User object."""
    return {
        "id": id,
        "username": name,
        "discriminator": "0",
        "global_name": None,
        "avatar": None,
        "bot": is_bot,
    }


OWN_BOT = user("1000000000000000001", "listener", True)


def next_id() -> str:
    """The next snowflake."""
    return str(next(_ids))


def new_message(channel: str, author: JSON, content: str, **more: Any) -> JSON:
    """A Discord Message object with the given members added."""
    return {
        "type": 0,
        "id": next_id(),
        "channel_id": channel,
        "author": author,
        "content": content,
        "timestamp": "2024-01-01T00:00:00.000000+00:00",
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": False,
        "mentions": [],
        "mention_roles": [],
        "attachments": [],
        "embeds": [],
        "components": [],
        "flags": 0,
        "pinned": False,
        **more,
    }
