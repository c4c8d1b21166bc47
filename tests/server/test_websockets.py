"""Websockets through the gateway: official SDKs, credentials, frames, and how they end."""

import asyncio
import base64
import json
import os
import ssl
import time
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from google import genai
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.clients.raw_upstreams import Authority
from tests.server.running import Running, free_port, until
from tests.server.running import running as started

TOKEN, VOICE = "gw-token-of-everything", "gw-token-of-voice-only"
POOR = "gw-token-with-a-small-budget"
LIVE = "ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
KEYS = {"w1": "sk-ws-one-1111", "w2": "sk-ws-two-2222"}
GEMINI_KEYS = {"l1": "AIza-ws-one", "l2": "AIza-ws-two"}
LIMIT = 200_000
FAR_PORT = free_port()  # where the upstream of the tests themselves listens, see `far`


def config(simulator) -> dict:
    return {
        "openai": {
            "api_url": f"{simulator.url}/openai",
            "api_keys": [{"id": i, "val": v} for i, v in KEYS.items()],
        },
        "google_gemini": {
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": i, "val": v} for i, v in GEMINI_KEYS.items()],
        },
        "upstreams": [
            {
                "name": "far",
                "api_url": f"http://127.0.0.1:{FAR_PORT}/v1",
                "api_keys": [{"id": "f1", "val": "sk-far-1111"}],
            },
            {
                "name": "voice",
                "api_url": f"{simulator.url}/openai/v1",
                "api_keys": [{"id": "v1", "val": "sk-voice-1111"}],
            },
            {
                "name": "voice-limited",
                "api_url": f"{simulator.url}/openai/v1",
                "api_keys": [{"id": "t1", "val": "sk-tpm-1111", "tpm": 10}],
            },
        ],
        "models": {"talk": "voice/gpt-realtime"},
        "access": {
            "tokens": [
                {"id": "all", "val": TOKEN},
                {"id": "voice", "val": VOICE, "models": ["gpt-realtime*", "gemini-*-live"]},
                {"id": "poor", "val": POOR, "budget": {"tokens": 40, "per": "month"}},
            ]
        },
        "limits": {"websocket_message_bytes": LIMIT},
    }


@pytest.fixture(scope="module")
def running(simulator, tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("websockets"), config(simulator))
    yield running.wait()
    assert running.stop() == 0


def address(running, path: str) -> str:
    return f"ws://127.0.0.1:{running.port}/{path}"


def bearer(token: str = TOKEN, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


def line_of(running, connection) -> dict:
    """The log line of a websocket that has ended."""
    return running.wait_log(request_id=connection.response.headers["x-request-id"])[0]


@asynccontextmanager
async def far(handler, **options):
    """An upstream whose websockets `handler` serves."""
    async with serve(handler, "127.0.0.1", FAR_PORT, compression=None, **options) as server:
        yield server


@asynccontextmanager
async def pair(running, **options):
    """A caller's websocket and the upstream's end of it."""
    ends: asyncio.Queue = asyncio.Queue()

    async def handler(end):
        await ends.put(end)
        await end.wait_closed()

    async with far(handler, max_size=None, **options):
        url = address(running, "upstreams/far/realtime?model=m")
        async with connect(
            url, additional_headers=bearer(), compression=None, max_size=None, ping_interval=None
        ) as caller:
            yield caller, await ends.get()


async def closing_of(end, seconds: float = 5) -> tuple[int, str]:
    """The close code and reason that come next."""
    with pytest.raises(ConnectionClosed):
        async with asyncio.timeout(seconds):
            while True:
                await end.recv()
    return end.close_code, end.close_reason


# --- official SDKs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "model", "key"),
    [
        ("/v1", "gpt-realtime", None),
        ("/c/v1", "gpt-realtime", None),
        ("/c/v1", "voice/gpt-realtime", "sk-voice-1111"),
        ("/c/v1", "talk", "sk-voice-1111"),
        ("/upstreams/voice", "gpt-realtime", "sk-voice-1111"),
    ],
)
def test_the_openai_package_talks_over_realtime(running, simulator, base, model, key):
    async def main():
        client = AsyncOpenAI(base_url=running.url + base, api_key=TOKEN)
        said, kinds = "", []
        async with client.realtime.connect(model=model) as connection:
            await connection.session.update(
                session={"type": "realtime", "instructions": "Be kind."}
            )
            for text in ("hello", "again"):
                await connection.conversation.item.create(
                    item={
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": text}],
                    }
                )
                await connection.response.create(response={"output_modalities": ["text"]})
                async for event in connection:
                    kinds.append(event.type)
                    if event.type == "response.output_text.delta":
                        said += event.delta
                    if event.type == "response.done":
                        break
            usage = event.response.usage
            return said, kinds, usage, connection._connection  # private: reason is its request id

    said, kinds, usage, connection = asyncio.run(main())
    assert said == "You said: helloYou said: again (turn 2)"
    assert kinds[:2] == ["session.created", "session.updated"]
    line = line_of(running, connection)
    assert line["status"] == 101 and line["outcome"] == "complete" and line["attempts"] == 1
    assert line["prompt_tokens"] == 24 and line["completion_tokens"] > usage.output_tokens
    [sent] = simulator.last(1, path="/openai/v1/realtime")
    assert sent["key"] in ([key] if key else KEYS.values()) and sent["model"] == "gpt-realtime"
    assert TOKEN not in json.dumps(sent)


def test_the_openai_package_talks_with_sound(running):
    async def main():
        client = AsyncOpenAI(base_url=f"{running.url}/v1", api_key=TOKEN)
        sound, said = 0, ""
        async with client.realtime.connect(model="gpt-realtime") as connection:
            for _ in range(20):
                audio = base64.b64encode(os.urandom(4800)).decode()
                await connection.input_audio_buffer.append(audio=audio)
            await connection.input_audio_buffer.commit()
            await connection.response.create()
            async for event in connection:
                if event.type == "response.output_audio.delta":
                    sound += len(base64.b64decode(event.delta))
                if event.type == "response.output_audio_transcript.done":
                    said = event.transcript
                if event.type == "response.done":
                    return sound, said

    sound, said = asyncio.run(main())
    assert sound > 0 and said == "You said: 96000 bytes of sound"


@pytest.mark.parametrize("base", ["/v1", "/c/v1", "/c/v1?model=gpt-5"])
def test_the_openai_package_asks_responses_over_a_websocket(running, base):
    async def main():
        path, _, query = base.partition("?model=")
        client = AsyncOpenAI(base_url=running.url + path, api_key=TOKEN)
        more = {"model": query} if query else {}
        async with client.responses.connect(extra_query=more) as connection:
            await connection.response.create(model="gpt-5", input="hello")
            async for event in connection:
                if event.type == "response.completed":
                    return event.response.output_text, connection._connection  # private: as above

    said, connection = asyncio.run(main())
    assert said == "You said: hello"
    line = line_of(running, connection)
    assert line["prompt_tokens"] == 8 and line["completion_tokens"] > 0
    assert line["model"] == "gpt-5" and line["counted"] == "told"


@pytest.fixture(scope="module")
def secure(simulator, tmp_path_factory):
    """The same gateway with TLS, without which Google's package opens no websocket."""
    folder = tmp_path_factory.mktemp("secure")
    authority = Authority(folder)
    pem, key = authority.certificate("localhost")
    info = {"enable": True, "pem_file": str(pem), "key_file": str(key)}
    running = Running(folder, config(simulator) | {"https_info": info})
    running.tls = ssl.create_default_context(cafile=str(authority.file))
    running.url = f"https://localhost:{running.port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{running.url}/ping", verify=running.tls).is_success
        except httpx.TransportError:
            return False

    until(answers, 20)
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("base", ["/gemini", "/c"])
def test_googles_package_talks_live(secure, simulator, base):
    async def main():
        client = genai.Client(
            api_key=TOKEN,
            http_options={"base_url": secure.url + base, "async_client_args": {"ssl": secure.tls}},
        )
        said, usage = "", []
        config = {"response_modalities": ["TEXT"]}
        async with client.aio.live.connect(model="gemini-2.5-live", config=config) as session:
            for text in ("hello", "again"):
                turn = {"role": "user", "parts": [{"text": text}]}
                await session.send_client_content(turns=turn, turn_complete=True)
                async for message in session.receive():
                    said += message.text or ""
                    usage += [message.usage_metadata] if message.usage_metadata else []
        return said, usage

    before = len(secure.log())
    said, usage = asyncio.run(main())
    assert said == "You said: helloYou said: again (turn 2)"
    line = secure.wait_log(before + 1)[before]
    assert line["outcome"] == "complete" and line["provider"] == "gemini-api"
    assert line["model"] == "gemini-2.5-live"
    assert line["prompt_tokens"] == sum(each.prompt_token_count for each in usage) == 30
    assert line["completion_tokens"] == sum(each.response_token_count for each in usage)
    [sent] = simulator.last(1, path="/gemini/")
    assert sent["key"] in GEMINI_KEYS.values() and TOKEN not in json.dumps(sent)


# --- who may connect, and with which key ------------------------------------------------------


def connected(running, path, **options) -> tuple[str, list]:
    """The first message of a websocket, and the headers of the handshake's answer."""

    async def main():
        async with connect(address(running, path), **options) as connection:
            return await connection.recv(), connection

    return asyncio.run(main())


def refused(running, path, **options) -> InvalidStatus:
    async def main():
        with pytest.raises(InvalidStatus) as caught:
            async with connect(address(running, path), **options):
                pass
        return caught.value.response

    return asyncio.run(main())


PROTOCOLS = ["realtime", f"openai-insecure-api-key.{TOKEN}", "openai-beta.realtime-v1"]


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": bearer()},
        {"additional_headers": {"x-api-key": TOKEN}},
        {"additional_headers": {"x-goog-api-key": TOKEN}},
        {"additional_headers": {"x-access-token": TOKEN}},
        {"subprotocols": PROTOCOLS},
    ],
)
def test_a_token_is_taken_wherever_it_is_and_goes_no_further(running, simulator, options):
    first, connection = connected(running, "v1/realtime?model=gpt-realtime", **options)
    assert json.loads(first)["type"] == "session.created"
    assert connection.subprotocol == ("realtime" if "subprotocols" in options else None)
    [sent] = simulator.last(1, path="/openai/v1/realtime")
    assert sent["key"] in KEYS.values() and TOKEN not in json.dumps(sent)
    assert "insecure" not in json.dumps(sent)
    line_of(running, connection)
    assert TOKEN not in running.out.read_text() + running.err.read_text()


def test_a_token_in_the_query_is_taken_where_google_has_its_keys(running, simulator):
    async def main():
        async with connect(address(running, f"gemini/{LIVE}?key={TOKEN}")) as connection:
            await connection.send(json.dumps({"setup": {"model": "models/gemini-2.5-live"}}))
            return await connection.recv()

    assert json.loads(asyncio.run(main())) == {"setupComplete": {}}
    [sent] = simulator.last(1, path="/gemini/")
    assert sent["key"] in GEMINI_KEYS.values() and TOKEN not in json.dumps(sent)


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({}, 401, "access_denied"),
        ({"additional_headers": bearer("wrong")}, 401, "access_denied"),
        ({"subprotocols": ["realtime", "openai-insecure-api-key.wrong"]}, 401, "access_denied"),
        ({"additional_headers": bearer(VOICE)}, 403, "not_allowed"),
    ],
)
@pytest.mark.parametrize("door", ["v1", "c/v1"])
def test_a_handshake_is_refused_as_a_request_is(running, door, options, status, code):
    answer = refused(running, f"{door}/realtime?model=gpt-5", **options)
    assert answer.status_code == status and json.loads(answer.body)["error"]["code"] == code


def test_an_unknown_key_id_is_refused(running):
    headers = bearer(**{"x-auth-id": "none-such"})
    answer = refused(running, "v1/realtime?model=gpt-realtime", additional_headers=headers)
    assert answer.status_code == 401 and b"none-such" in answer.body


def test_a_callers_own_key_is_used_and_moved_out_of_the_subprotocols(running, simulator):
    protocols = ["realtime", "openai-insecure-api-key.sk-callers-own"]
    options = {"additional_headers": {"x-access-token": TOKEN}, "subprotocols": protocols}
    connected(running, "v1/realtime?model=gpt-realtime", **options)
    [sent] = simulator.last(1, path="/openai/v1/realtime")
    assert sent["key"] == "sk-callers-own" and "insecure" not in json.dumps(sent)


def test_a_callers_own_key_is_not_shown_to_an_upstream_behind_an_alias(running, simulator):
    headers = bearer("sk-callers-own", **{"x-access-token": TOKEN})
    connected(running, "c/v1/realtime?model=talk", additional_headers=headers)
    [sent] = simulator.last(1, path="/openai/v1/realtime")
    assert sent["key"] == "sk-voice-1111"


def test_a_named_key_is_the_one_that_serves(running, simulator):
    for id, value in KEYS.items():
        headers = bearer(**{"x-auth-id": id})
        connected(running, "v1/realtime?model=gpt-realtime", additional_headers=headers)
        assert simulator.last(1, path="/openai/v1/realtime")[0]["key"] == value


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_web_page_of_another_site_gets_no_key_of_the_pool(gateway, origin):
    path = "v1/realtime?model=gpt-realtime"
    answer = refused(gateway, path, additional_headers={"Origin": origin})
    assert answer.status_code == 401
    own = {"Origin": f"http://127.0.0.1:{gateway.port}"}
    assert "session.created" in connected(gateway, path, additional_headers=own)[0]


# --- another key, until the upstream accepts --------------------------------------------------


@pytest.mark.parametrize("fault", ["401", "429", "500", "503", "reset"])
def test_another_key_is_tried_until_the_upstream_accepts(running, simulator, fault):
    for id in KEYS:
        wanted = {"pool": "openai.api_keys", "id": id, "action": "reset"}
        httpx.post(f"{running.url}/admin/keys", json=wanted).raise_for_status()
    simulator.fault(fault, 1, path="/openai/v1/realtime")
    path = f"v1/realtime?model=gpt-realtime-{fault}"
    first, connection = connected(running, path, additional_headers=bearer())
    assert json.loads(first)["type"] == "session.created"
    assert connection.response.headers["x-attempts"] == "2"
    [failed] = line_of(running, connection)["tried"]
    assert failed["key_id"] != connection.response.headers["x-auth-id"]


def test_the_upstreams_refusal_is_told_when_no_key_is_accepted(running, simulator):
    model = "gpt-realtime-sim-403"
    answer = refused(running, f"v1/realtime?model={model}", additional_headers=bearer())
    assert answer.status_code == 403 and b"not supported" in answer.body
    assert len(simulator.last(9, model=model)) == 2


def test_tokens_count_against_a_keys_limit_while_the_websocket_is_open(running):
    async def ask():
        url = address(running, "upstreams/voice-limited/realtime?model=gpt-realtime")
        async with connect(url, additional_headers=bearer()) as connection:
            await connection.recv()
            await connection.send('{"type":"response.create"}')
            while '"response.done"' not in await connection.recv():
                pass
            answer = await asyncio.to_thread(
                refused, running, "upstreams/voice-limited/realtime", additional_headers=bearer()
            )
            await connection.send('{"type":"response.create"}')  # the open one goes on
            await connection.recv()
            return answer

    answer = asyncio.run(ask())
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0


def test_a_websocket_is_closed_after_the_answer_that_has_spent_its_budget(running):
    async def ask():
        url = address(running, "upstreams/voice/realtime?model=gpt-realtime")
        answers = 0
        async with connect(url, additional_headers=bearer(POOR)) as connection:
            with suppress(ConnectionClosed):
                await connection.recv()
                for _ in range(20):
                    await connection.send('{"type":"response.create"}')
                    while '"response.done"' not in await connection.recv():
                        pass
                    answers += 1
            return connection, answers

    connection, answers = asyncio.run(ask())
    assert 1 <= answers < 20
    assert (connection.close_code, connection.close_reason) == (
        1008,
        "Your access token has spent its budget.",
    )
    line = line_of(running, connection)
    assert (line["outcome"], line["code"]) == ("refused", "budget_exceeded")
    assert line["prompt_tokens"] + line["completion_tokens"] >= 40
    answer = refused(running, "upstreams/voice/realtime", additional_headers=bearer(POOR))
    assert answer.status_code == 429 and b"budget_exceeded" in answer.body


def test_a_key_that_gemini_closes_on_is_rested(simulator, tmp_path):
    keys = [{"id": "bad", "val": "AIza-bad-live"}, {"id": "good", "val": "AIza-good-live"}]
    gemini = {"api_url": f"{simulator.url}/gemini", "api_keys": keys}

    async def ask(gateway):
        async with connect(address(gateway, f"gemini/{LIVE}")) as connection:
            try:
                await connection.send(json.dumps({"setup": {"model": "models/gemini-2.5-live"}}))
                return await connection.recv()
            except ConnectionClosed:
                return connection.close_code, connection.close_reason

    with started(tmp_path, {"google_gemini": gemini}) as gateway:
        answers = {asyncio.run(ask(gateway)) for _ in range(2)}  # one by each key
        states = httpx.get(f"{gateway.url}/admin/keys").json()["keys"]
    closed = (1007, "API key not valid. Please pass a valid API key.")
    assert answers == {closed, b'{"setupComplete":{}}'}
    told = {key["id"]: (key["refused"], key["state"] == "awake") for key in states}
    assert told == {"bad": (True, False), "good": (False, True)}


# --- tokens for some models only --------------------------------------------------------------


def test_a_token_for_some_models_may_name_no_other_in_its_messages(running, simulator):
    async def ask(path, *messages):
        async with connect(address(running, path), additional_headers=bearer(VOICE)) as connection:
            for message in messages:
                await connection.send(message if isinstance(message, str) else json.dumps(message))
            return await closing_of(connection)

    def setup(model):
        return {"setup": {"model": f"models/{model}"}}

    realtime = "v1/realtime?model=gpt-realtime"
    began = time.time()  # other tests of this simulator have asked this model
    for path, *messages in [
        (f"gemini/{LIVE}", setup("gemini-2.5-pro")),
        (f"gemini/{LIVE}", {"setup": {}}),
        (f"gemini/{LIVE}", '{"setup":{"model":"gemini-x-live","model":"gemini-2.5-pro"}}'),
        (f"gemini/{LIVE}", '{"se\\u0074up":{"model":"gemini-2.5-pro"}}'),
        (realtime, {"type": "session.update", "session": {"model": "gpt-5-realtime"}}),
        (realtime, "no json"),
        ("v1/responses", {"type": "response.create", "model": "gpt-5", "input": "hi"}),
        ("v1/responses", {"type": "response.create", "input": "hi"}),
    ]:
        code, reason = asyncio.run(ask(path, *messages))
        assert code == 1008 and reason, messages
    assert not [r for r in simulator.last(9, model="gemini-2.5-pro") if r["at"] > began]

    async def allowed():
        url = address(running, f"gemini/{LIVE}")
        async with connect(url, additional_headers=bearer(VOICE)) as connection:
            await connection.send(json.dumps(setup("gemini-2.5-live")))
            return await connection.recv()

    assert json.loads(asyncio.run(allowed())) == {"setupComplete": {}}


# --- frames -----------------------------------------------------------------------------------


async def pieces_of(end) -> list:
    return [piece async for piece in end.recv_streaming()]


def test_frames_pass_unchanged_in_both_directions(running):
    messages = [
        "text é",
        b"\x00binary\xff",
        "",
        b"",
        "x" * 70_000,
        os.urandom(150_000),
        ["three ", "pieces ", "of text"],
        [b"two", b"of bytes"],
        ["", "with an empty start"],
    ]

    async def main():
        async with pair(running) as (caller, end):
            for source, target in ((caller, end), (end, caller)):
                for message in messages:
                    sending = asyncio.create_task(source.send(message))
                    got = await pieces_of(target)
                    await sending
                    # websockets ends a fragmented message with an empty frame
                    want = [*message, message[0][:0]] if isinstance(message, list) else [message]
                    assert got == want
            # All at once: the order stays.
            for number in range(500):
                await caller.send(str(number))
            assert [await end.recv() for _ in range(500)] == [str(n) for n in range(500)]

    asyncio.run(main())


def test_pings_are_answered_by_the_far_end(running):
    async def main():
        async with pair(running, ping_interval=None) as (caller, end):
            for one, other in ((caller, end), (end, caller)):
                other.transport.pause_reading()
                waiter = await one.ping(b"payload")
                await asyncio.sleep(0.2)
                assert not waiter.done(), "the gateway has answered"
                other.transport.resume_reading()
                await asyncio.wait_for(waiter, 20)
            await end.pong(b"unasked")
            await end.send("after")
            assert await caller.recv() == "after"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "bye"), (1011, "broken"), (3000, "é"), (4999, "x" * 123)],
)
@pytest.mark.parametrize("first", ["caller", "upstream"])
def test_a_close_code_reaches_the_other_side(running, first, code, reason):
    async def main():
        async with pair(running) as (caller, end):
            one, other = (caller, end) if first == "caller" else (end, caller)
            await one.close(code, reason)
            assert await closing_of(other) == (code, reason)
            assert one.close_code == code
            return caller

    line = line_of(running, asyncio.run(main()))
    is_error = first == "upstream" and code not in (1000, 1001)
    assert line["outcome"] == ("upstream_error" if is_error else "complete")
    assert line.get("code", "") == (f"close_{code}" if is_error else "")


def test_a_close_without_a_code_stays_without(running):
    async def main():
        async with pair(running) as (caller, end):
            end.protocol.send_close()
            end.send_data()
            assert await closing_of(caller) == (1005, "")

    asyncio.run(main())


def test_what_an_upstream_says_at_once_is_not_lost(running):
    async def greets(end):
        await end.send("hello")
        await end.close(4000, "and good-bye")

    async def main():
        async with far(greets):
            for _ in range(20):
                url = address(running, "upstreams/far/realtime?model=m")
                async with connect(url, additional_headers=bearer()) as caller:
                    assert await caller.recv() == "hello"
                    assert await closing_of(caller) == (4000, "and good-bye")

    asyncio.run(main())


def test_a_message_above_the_limit_ends_the_websocket(running):
    async def main():
        async with pair(running) as (caller, end):
            await caller.send("x" * LIMIT)
            assert len(await end.recv()) == LIMIT
            await caller.send(["x" * (LIMIT // 2)] * 3)
            assert (await closing_of(caller))[0] == 1009
            assert (await closing_of(end))[0] == 1001
        first = caller
        async with pair(running) as (caller, end):
            await end.send(b"x" * (LIMIT + 1))
            assert (await closing_of(caller))[0] == 1009
            assert (await closing_of(end))[0] == 1009
        return first, caller

    first, second = asyncio.run(main())
    assert line_of(running, first)["outcome"] == "refused"
    assert line_of(running, second)["outcome"] == "upstream_error"


def test_broken_frames_end_the_websocket(running):
    async def main():
        async with pair(running) as (caller, end):
            caller.transport.write(b"\x83\x80\0\0\0\0")  # an opcode that there is not
            assert (await closing_of(caller))[0] == 1002
            assert (await closing_of(end))[0] == 1001

    asyncio.run(main())


# --- ends -------------------------------------------------------------------------------------


def test_a_caller_who_leaves_closes_the_upstream_at_once(running):
    async def main():
        async with pair(running) as (caller, end):
            await caller.send("still here")
            await end.recv()
            left = time.monotonic()
            caller.transport.abort()
            code, _ = await closing_of(end)
            return code, time.monotonic() - left, caller

    code, took, caller = asyncio.run(main())
    assert code == 1001 and took < 8
    line = line_of(running, caller)
    assert line["outcome"] == "client_gone" and line["status"] == 499


def test_a_caller_who_leaves_during_the_handshake_closes_the_upstream(running):
    async def main():
        came, gone = asyncio.Event(), asyncio.Event()

        async def silent(reader, writer):
            came.set()
            while await reader.read(65536):
                pass
            gone.set()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", FAR_PORT):
            url = address(running, "upstreams/far/realtime?model=m")
            asking = asyncio.ensure_future(connect(url, additional_headers=bearer()).__aenter__())
            await came.wait()
            asking.cancel()
            await asyncio.wait_for(gone.wait(), 8)

    asyncio.run(main())


def test_an_upstream_that_is_cut_off_is_told(running):
    async def main():
        async with pair(running) as (caller, end):
            await end.send("and then")
            await caller.recv()
            end.transport.abort()
            assert (await closing_of(caller))[0] == 1011
            return caller

    assert line_of(running, asyncio.run(main()))["outcome"] == "upstream_cut"


def test_a_reader_who_stalls_stalls_only_itself(running):
    async def main():
        async with pair(running) as (caller, end):
            caller.transport.pause_reading()
            sent = 0

            async def flood():
                nonlocal sent
                while sent < 4000:
                    await end.send(b"%08d" % sent + b"x" * 20_000)
                    sent += 1

            flooding = asyncio.create_task(flood())
            await asyncio.sleep(1)
            stuck = sent
            await asyncio.sleep(0.3)
            assert sent == stuck < 1500, "the gateway has buffered what nobody reads"
            # Others do not notice, nor does the other direction.
            began = time.monotonic()
            async with connect(
                address(running, "v1/realtime?model=gpt-realtime"), additional_headers=bearer()
            ) as other:
                await other.recv()
            assert time.monotonic() - began < 8
            await caller.send("this way is free")
            assert await end.recv() == "this way is free"
            caller.transport.resume_reading()
            for number in range(4000):
                assert (await caller.recv())[:8] == b"%08d" % number
            await flooding

    asyncio.run(main())


def test_an_upstream_who_stalls_makes_its_caller_wait(running):
    async def main():
        async with pair(running) as (caller, end):
            end.transport.pause_reading()
            sent = 0

            async def flood():
                nonlocal sent
                while sent < 2000:
                    await caller.send(b"%08d" % sent + b"x" * 20_000)
                    sent += 1

            flooding = asyncio.create_task(flood())
            await asyncio.sleep(1)
            stuck = sent
            await asyncio.sleep(0.3)
            assert sent == stuck < 1500
            end.transport.resume_reading()
            for number in range(2000):
                assert (await end.recv())[:8] == b"%08d" % number
            await flooding

    asyncio.run(main())


@pytest.mark.slow
def test_a_gateway_that_stops_tells_its_websockets(simulator, tmp_path):
    """Each goes on for as long as the drain lasts, and is then told to connect again."""

    async def main(gateway):
        async with pair(gateway) as (caller, end), pair_of_voice(gateway) as other:
            gateway.process.terminate()
            began = time.monotonic()
            await asyncio.sleep(0.7)
            await caller.send("still served")
            assert await end.recv() == "still served"
            answer = asyncio.create_task(refused_soon(gateway))
            closings = await asyncio.gather(closing_of(caller), closing_of(end), closing_of(other))
            return [code for code, _ in closings], time.monotonic() - began, await answer

    with started(tmp_path, config(simulator) | {"drain_seconds": 1.5}) as gateway:
        codes, took, status = asyncio.run(main(gateway))
        assert gateway.process.wait(10) == 0
    assert codes == [1012, 1001, 1012] and 1 < took < 8 and status == 503
    assert [line["outcome"] for line in gateway.log(status=101)] == ["shutdown"] * 2


@asynccontextmanager
async def pair_of_voice(gateway):
    url = address(gateway, "v1/realtime?model=gpt-realtime")
    async with connect(url, additional_headers=bearer()) as connection:
        await connection.recv()
        yield connection


async def refused_soon(gateway) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with pair_of_voice(gateway):
            pass
    return caught.value.response.status_code


@pytest.mark.slow
def test_silence_and_age_end_a_websocket_but_no_reload(simulator, tmp_path):
    timeouts = {"websocket_idle": 1, "websocket_total": 12, "write": 1}  # a reload takes its time

    async def main(gateway):
        async with pair(gateway, ping_interval=0.3) as (caller, end):
            reload = f"{gateway.url}/admin/reload"
            reloaded = await asyncio.to_thread(httpx.post, reload, timeout=30)
            assert reloaded.is_success, reloaded.text
            await caller.send("the old worker serves on")
            assert await end.recv() == "the old worker serves on"
        began = time.monotonic()
        async with pair(gateway, ping_interval=None) as (caller, end):
            assert (await closing_of(caller))[0] == 1001 == (await closing_of(end))[0]
            idle = time.monotonic() - began
        began = time.monotonic()
        async with pair(gateway, ping_interval=0.3) as (busy, _):  # pings are signs of life
            assert (await closing_of(busy, 20))[0] == 1001
            total = time.monotonic() - began
        began = time.monotonic()
        async with pair(gateway, ping_interval=None) as (stalled, end):
            stalled.transport.pause_reading()
            with pytest.raises(ConnectionClosed):
                while True:
                    await end.send(b"x" * 50_000)
            write = time.monotonic() - began
        return idle, total, write, (caller, busy, stalled)

    with started(tmp_path, config(simulator) | {"timeouts": timeouts}) as gateway:
        idle, total, write, callers = asyncio.run(main(gateway))
    assert 0.9 < idle < 2 and 11.9 < total < 14 and 0.9 < write < 2.5
    codes = [line_of(gateway, each)["code"] for each in callers]
    assert codes == ["websocket_idle", "websocket_total", "caller_not_reading"]


# --- where there is none ----------------------------------------------------------------------


def metadata(model: str) -> dict[str, str]:
    """As Codex names the model in its handshake."""
    return {"x-codex-turn-metadata": json.dumps({"model": model, "turn_id": ""})}


@pytest.mark.parametrize(
    ("path", "model", "status"),
    [
        ("c/v1/responses", "claude/claude-sonnet-4-5", 426),
        ("c/v1/responses", "voice/some-model", 426),  # it is translated
        ("c/v1/responses", "openai/gpt-5", 426),  # frames pass as they are, the prefix with them
        ("c/v1/realtime?model=claude/x", "", 501),
        ("c/v1/realtime?model=gemini/x", "", 501),
        ("claude/api/v1/messages", "", 501),
    ],
)
def test_where_there_is_no_websocket_it_is_said_at_once(running, path, model, status):
    answer = refused(running, path, additional_headers=bearer(**metadata(model)))
    assert answer.status_code == status
    error = json.loads(answer.body)["error"]
    assert error["code"] if isinstance(error, dict) and "code" in error else error


@pytest.mark.parametrize("path", ["c/v1/realtime", f"c/{LIVE}"])
def test_an_ordinary_get_is_told_to_upgrade(running, path):
    assert httpx.get(f"{running.url}/{path}", headers=bearer()).status_code == 426


def test_responses_over_a_websocket_stay_with_their_upstream(running):
    async def ask(message):
        url = address(running, "c/v1/responses")
        headers = bearer(**metadata("gpt-5"))
        async with connect(url, additional_headers=headers) as connection:
            await connection.send(json.dumps({"type": "response.create", "input": "hi"} | message))
            try:
                return json.loads(await connection.recv())["type"]
            except ConnectionClosed:
                return connection.close_code

    assert asyncio.run(ask({"model": "gpt-5", "instructions": "resp_gw"})) == "response.created"
    assert asyncio.run(ask({"model": "claude/claude-sonnet-4-5"})) == 1008
    assert asyncio.run(ask({"model": "gpt-5", "previous_response_id": f"resp_gw{0:032x}"})) == 1008


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Sec-WebSocket-Version", "8", 400),
        ("Sec-WebSocket-Key", "short", 400),
        ("Upgrade", "h2c", 426),  # no websocket: the upgrade is ignored, and the upstream says so
    ],
)
def test_a_malformed_handshake_is_refused_before_the_upstream_is_asked(
    running, header, value, status
):
    headers = bearer() | {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    answer = httpx.get(f"{running.url}/v1/realtime?model=m", headers=headers | {header: value})
    assert answer.status_code == status
