"""The simulated Discord: what the gateway tells with and without the content intent, and limits."""

import asyncio
import contextlib
import json

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

CHANNEL = "1300000000000000009"
WITH_CONTENT, WITHOUT = 33281, 513


class Gateway:
    """A bare gateway client: what it was told, by name."""

    def __init__(self, socket):
        self.socket = socket
        self.seen = []

    async def say(self, op, data):
        await self.socket.send(json.dumps({"op": op, "d": data}))

    async def until(self, name):
        while True:
            payload = json.loads(await asyncio.wait_for(self.socket.recv(), 5))
            self.seen.append(payload)
            if name in (payload["op"], payload.get("t")):
                return payload


@contextlib.asynccontextmanager
async def gateway(simulator):
    url = simulator.url.replace("http", "ws", 1) + "/discord/gw/?v=10&encoding=json"
    async with connect(url) as socket:
        found = Gateway(socket)
        hello = await found.until(10)
        assert hello["d"]["heartbeat_interval"] > 0
        yield found


def identify(intents, token="bot-wire"):
    properties = {"os": "linux", "browser": "test", "device": "test"}
    return {"token": token, "intents": intents, "properties": properties}


async def post(simulator, text, token="user-wire", **more):
    url = f"{simulator.url}/discord/api/v10/channels/{CHANNEL}/messages"
    async with httpx.AsyncClient() as client:
        return await client.post(
            url, json={"content": text, **more}, headers={"authorization": token}
        )


def test_messages_are_empty_without_the_content_intent(simulator):
    async def listen(intents):
        async with gateway(simulator) as found:
            await found.say(2, identify(intents))
            ready = await found.until("READY")
            assert ready["d"]["resume_gateway_url"].startswith("ws://127.0.0.1")
            posted = await post(simulator, "Hi <@1400000000000000009>")
            while True:
                event = await found.until("MESSAGE_CREATE")
                if event["d"].get("message_reference", {}).get("message_id") == posted.json()["id"]:
                    return event["d"]["content"]

    assert asyncio.run(listen(WITH_CONTENT)).startswith("Y")
    assert asyncio.run(listen(WITHOUT)) == ""


def test_a_heartbeat_is_acknowledged_and_a_resume_brings_what_was_missed(simulator):
    async def resumed():
        async with gateway(simulator) as found:
            await found.say(1, None)
            await found.until(11)
            await found.say(2, identify(WITH_CONTENT))
            ready = await found.until("READY")
        posted = await post(simulator, "missed")
        async with gateway(simulator) as again:
            await again.say(
                6, {"token": "bot-wire", "session_id": ready["d"]["session_id"], "seq": ready["s"]}
            )
            await again.until("RESUMED")
            missed = [p["d"]["id"] for p in again.seen if p.get("t") == "MESSAGE_CREATE"]
            return posted.json()["id"] in missed

    assert asyncio.run(resumed())


def test_an_unknown_session_is_invalid(simulator):
    async def resume():
        async with gateway(simulator) as found:
            await found.say(6, {"token": "bot-wire", "session_id": "gone", "seq": 1})
            return await found.until(9)

    assert asyncio.run(resume())["d"] is False


@pytest.mark.parametrize(("token", "code"), [("wrong", 4004), ("bot-nointent", 4014)])
def test_a_refused_identify_closes_with_its_code(simulator, token, code):
    async def refused():
        async with gateway(simulator) as found:
            await found.say(2, identify(WITH_CONTENT, token))
            with pytest.raises(ConnectionClosed) as caught:
                await found.until("READY")
            return caught.value.rcvd.code

    assert asyncio.run(refused()) == code


def test_posts_are_counted_limited_and_not_repeated(simulator):
    async def posts():
        return [await post(simulator, "x", "user-wire-rate-2") for _ in range(3)]

    first, second, third = asyncio.run(posts())
    assert [r.headers["x-ratelimit-remaining"] for r in (first, second)] == ["1", "0"]
    assert third.status_code == 429
    assert third.json()["retry_after"] > 0
    assert "via" in third.headers

    async def twice():
        more = {"nonce": "n1", "enforce_nonce": True}
        return [await post(simulator, "once", **more) for _ in range(2)]

    once, again = asyncio.run(twice())
    assert once.json()["id"] == again.json()["id"]


@pytest.mark.parametrize(
    ("text", "token", "status", "code"),
    [
        ("x" * 2001, "user-wire", 400, 50035),
        ("", "user-wire", 400, 50006),
        ("x", "dead", 401, 0),
        ("x", "locked", 403, 40002),
    ],
)
def test_refusals_have_discords_codes(simulator, text, token, status, code):
    answer = asyncio.run(post(simulator, text, token))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
