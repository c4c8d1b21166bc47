"""A Coze bot in the simulated Discord: it answers a message with a reply and edits of it."""

import asyncio
import re
from collections.abc import Iterator

from app.simulator.discord_state import GUILD, JSON, new_message, state, user

_WORD = re.compile(r"/([a-z]+)(?:-(\d+))?\s*<@")
MENTION = re.compile(r"<@!?(\d+)>")
BUTTONS = [
    {
        "type": 1,
        "id": 1,
        "components": [
            {"type": 2, "id": 2, "style": 2, "label": "Tell me more", "custom_id": "more"}
        ],
    }
]
SPENT = "You have exceeded the daily limit for sending messages to the bot. Try tomorrow."


async def reply_to(question: JSON, bot_id: str) -> None:
    """Replies as a Coze bot does: a message, its edits, buttons at its end, and one late edit."""
    content = question["content"]
    found = _WORD.search(content)
    word, number = (found[1], int(found[2] or 0)) if found else ("", 0)
    if word == "silent":
        return
    step = number / 1000 if word == "slow" else 0.01
    text = MENTION.sub("", content).strip()
    for id, snapshot, is_last in _snapshots(question, bot_id, word, f"You said: {text}"):
        fresh = snapshot["id"] not in state.messages
        state.put(snapshot)
        event = {**snapshot, "guild_id": GUILD}
        if word == "partial" and not fresh:
            kept = ("id", "channel_id", "guild_id", "components" if is_last else "content")
            event = {name: event[name] for name in kept}
        await state.dispatch("MESSAGE_CREATE" if fresh else "MESSAGE_UPDATE", event)
        if word == "hang" and not fresh:
            return
        if word != "early" or id:
            await asyncio.sleep(step)
    if word != "partial":
        # Discord looks at the links of a message after it was written.
        late = {**snapshot, "guild_id": GUILD, "embeds": [*snapshot["embeds"], {"type": "link"}]}
        await state.dispatch("MESSAGE_UPDATE", late)


def _snapshots(
    question: JSON, bot_id: str, word: str, text: str
) -> Iterator[tuple[int, JSON, bool]]:
    """Each state of the reply (or replies): number, whole message, is it the last."""
    reply = {
        "type": 19,
        "message_reference": {
            "type": 0,
            "channel_id": question["channel_id"],
            "guild_id": GUILD,
            "message_id": question["id"],
        },
        "referenced_message": question,
        "mentions": [question["author"]],
    }
    author = user(bot_id, "coze", True)
    made = new_message(question["channel_id"], author, "", **reply)
    if word == "spent":
        yield 0, {**made, "content": SPENT}, True
        return
    stages = [text[: round(len(text) * part / 4)] for part in (1, 2, 3, 4)]
    if word == "rewrite":
        stages.insert(2, "Let me think again")
    for number, stage in enumerate(stages):
        is_last = number == len(stages) - 1
        message = {**made, "content": stage}
        if number:
            message["edited_timestamp"] = "2024-01-01T00:00:01.000000+00:00"
        if is_last and word == "picture":
            message["embeds"] = [{"type": "rich", "image": {"url": "https://cdn.example/p.png"}}]
        if is_last and word == "partial":
            yield number, message, False
        if is_last and word not in ("nobuttons", "second"):
            message = {**message, "components": BUTTONS}
        yield number, message, is_last
    if word == "second":
        more = new_message(question["channel_id"], author, "And more.", **reply)
        yield len(stages), more, False
        yield len(stages) + 1, {**more, "components": BUTTONS}, True
