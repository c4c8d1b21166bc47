"""The Discord bridge: a process with the one Discord session of this host.

Each session of a bot gets all events of its guild and costs one of its 1000 logins a day, so the
workers share this one: they POST /ask on loopback and read server-sent events. discord.py holds the
session: it sends heartbeats, reconnects and resumes. It is imported in this process alone.

    worker → POST /ask → files uploaded → question posted → `asked`
                         gateway events → `reply` … → done, `quiet` or `failed`
"""

import asyncio
import base64
import binascii
import hmac
import logging
import random
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from app.clients import Clients, read_whole
from app.config.load import secrets
from app.config.schema import Config, CozeDiscord
from app.fronts.openai_chat.errors import error_body
from app.offload import group_signals, main_process
from app.telemetry import log_setup
from app.wire.errors import GatewayError, bad_request
from app.wire.retry_after import whole_seconds
from app.wire.surrogates import mend
from app.wire.upstream import UpstreamReply, UpstreamRequest, join_url
from providers.coze import channel, schema
from providers.coze.discord import bridge_secret
from providers.coze.errors import NO_RETRY

if TYPE_CHECKING:
    import discord
    from aiohttp import web

NAME = "DiscordBridge"
_SESSION_SECONDS = 5.0  # how long a question waits for a session that is being resumed
_POST_SECONDS = 30.0  # from the request to the post, waits for rate limits included
_POST_TRIES = 4
_COMMENT_SECONDS = 10.0
_DEFAULT_OUT_SECONDS = 300.0  # what 0 means, as in the Go project
_FATAL_SECONDS = 3600.0  # a refused token is not tried again sooner
_MAX_REPLY_BYTES = 4 * 1024 * 1024
_PAGE = 100  # messages per request when answers are read again

logger = logging.getLogger("any_proxy.discord")
_dispatch_decoder = msgspec.json.Decoder(schema.Dispatch)
_ask_decoder = msgspec.json.Decoder(schema.BridgeRequest)


def run(settings: Config) -> None:
    """Runs the process until the main process tells it to leave, or is gone."""
    log_setup.configure(settings.log_level, settings.log_format, secrets(settings))
    try:
        import aiohttp  # noqa: F401
        import discord  # noqa: F401
    except ImportError as error:
        logger.error("coze.discord.enable needs the package discord.py: %s", error)
        while main_process.is_alive():  # a restart would change nothing
            time.sleep(1)
        return
    asyncio.run(Bridge(settings).serve())


class Bridge:
    """The Discord session, the accounts that post, and the questions that wait for answers."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._discord: CozeDiscord = config.coze.discord
        self._proxy = config.coze.proxy_url or config.proxy_url or None
        self._clients = Clients(config.timeouts.connect)
        self._channel = channel.Channel(self._discord.channel_id, self._discord.coze_bot)
        self._senders = channel.Senders(self._discord.auth)
        # One post at a time per account, so that its rate limit is known before the next one.
        self._post_locks = {id(sender): asyncio.Lock() for sender in self._senders.all}
        self._bots_cooling_until: dict[str, float] = {}
        self._secret = bridge_secret(self._discord.chat_bot_token)
        self._client: discord.Client | None = None
        self._in_session = asyncio.Event()
        self._in_session_since = 0.0
        self._had_session = False
        self._trouble = "it has not connected yet"
        self._rereading: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Holds the session and serves the workers, until told to leave.

        Raises SystemExit when coze.discord.bridge_port cannot be used.
        """
        from aiohttp import web

        limit = self._config.limits.request_bytes * 2
        app = web.Application(client_max_size=limit)
        app.router.add_post("/ask", self._ask)
        app.router.add_get("/health", self._health)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._discord.bridge_port, shutdown_timeout=1)
        try:
            await site.start()
        except OSError as error:
            logger.error("port coze.discord.bridge_port cannot be used: %s", error.strerror)
            await runner.cleanup()
            raise SystemExit(1) from None
        session = asyncio.create_task(self._hold_session(), name="discord-session")
        try:
            await _until_signalled()
        finally:
            session.cancel()
            with suppress(asyncio.CancelledError):
                await session
            await runner.cleanup()
            await self._clients.close()

    # -- the session

    async def _hold_session(self) -> None:
        """Logs in again, after a pause, whenever discord.py gives up reconnecting and resuming."""
        import discord

        failures = 0
        while True:
            self._client = client = _new_client(self)
            pause = 0.0
            try:
                await client.start(self._discord.chat_bot_token)
            except (discord.LoginFailure, discord.PrivilegedIntentsRequired) as error:
                pause = self._refused(str(error))
            except discord.ConnectionClosed as error:
                pause = self._refused(f"Discord closed the session with code {error.code}")
            except (discord.DiscordException, OSError, TimeoutError) as error:
                self._trouble = f"the login failed ({type(error).__name__})"
            except Exception as error:
                if not type(error).__module__.startswith("aiohttp"):
                    logger.exception("the Discord session failed")
                self._trouble = f"the login failed ({type(error).__name__})"
            finally:
                self.on_disconnect()
                with suppress(Exception):
                    await client.close()
            failures = 0 if self._had_session else failures + 1
            self._had_session = False
            pause = pause or min(2.0**failures, 60.0)
            logger.warning("no Discord session: %s; next try in %.0f s", self._trouble, pause)
            await asyncio.sleep(pause)

    def _refused(self, why: str) -> float:
        """The pause after a refused login: too many logins make Discord reset the token."""
        self._trouble = why
        return _FATAL_SECONDS

    def on_payload(self, text: str) -> None:
        """Handles one raw gateway payload; called in order, before discord.py handles it."""
        if '"MESSAGE_' not in text and '"RE' not in text:  # READY, RESUMED
            return
        try:
            payload = _dispatch_decoder.decode(mend(text.encode()))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        match payload.t:
            case "MESSAGE_CREATE" | "MESSAGE_UPDATE":
                self._channel.hear(payload.d, asyncio.get_running_loop().time())
            case "RESUMED":
                self._begin()
            case "READY":
                self._begin()
                self._had_session = True
                # A new session gets no events of the time before it.
                if self._channel.open:
                    self._rereading = asyncio.create_task(self._reread(), name="reread")

    def _begin(self) -> None:
        self._in_session_since = asyncio.get_running_loop().time()
        self._in_session.set()

    def on_disconnect(self) -> None:
        """The connection to Discord is lost; discord.py may resume it."""
        if self._in_session.is_set():
            self._in_session.clear()
            self._trouble = "the connection to Discord was lost"

    async def _reread(self) -> None:
        """Reads the channel again from the oldest open question on."""
        client = self._client
        if client is None:
            return
        after = min(int(id) for id in self._channel.open) - 1
        now = asyncio.get_running_loop().time()
        try:
            while True:
                page: Any = await client.http.logs_from(
                    int(self._discord.channel_id), limit=_PAGE, after=after
                )
                for message in sorted(page, key=lambda message: int(message["id"])):
                    self._channel.hear(msgspec.json.encode(message), now)
                    after = max(after, int(message["id"]))
                if len(page) < _PAGE:
                    return
        except Exception as error:  # a question whose answer is missed ends by its timeout
            logger.warning("the answers so far cannot be read again: %s", type(error).__name__)

    async def _wait_for_session(self) -> None:
        try:
            async with asyncio.timeout(_SESSION_SECONDS):
                await self._in_session.wait()
        except TimeoutError:
            raise GatewayError(
                503,
                f"There is no Discord session to hear an answer with: {self._trouble}.",
                code="no_discord_session",
                retry_after=5,
            ) from None

    # -- one question

    async def _health(self, request: "web.Request") -> "web.Response":
        from aiohttp import web

        state = {"session": self._in_session.is_set(), "open": len(self._channel.open)}
        return web.json_response(state)

    async def _ask(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        try:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._secret}".encode()):
                raise GatewayError(401, "This door is for this gateway's own workers.")
            try:
                ask = _ask_decoder.decode(await request.read())
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise bad_request(f"This is no question: {error}.") from None
            return await self._answer(request, ask)
        except GatewayError as error:
            headers = dict(error.headers)
            if error.retry_after is not None:
                headers["retry-after"] = str(whole_seconds(error.retry_after))
            return web.Response(
                status=error.status,
                body=error_body(error),
                headers=headers,
                content_type="application/json",
            )

    async def _answer(
        self, request: "web.Request", ask: schema.BridgeRequest
    ) -> "web.StreamResponse":
        from aiohttp import web

        began = asyncio.get_running_loop().time()
        await self._wait_for_session()
        bot_id = self._bot(ask.bot_id)
        text = await self._with_files(ask)
        question, sender = await self._post(text, bot_id)
        try:
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            await response.write(_event("asked", schema.Asked(bot_id)))
            await self._stream_replies(response, ask, question, sender, bot_id, began)
            await response.write_eof()
        finally:
            self._channel.forget(question)
        return response

    def _bot(self, wanted: str) -> str:
        now = asyncio.get_running_loop().time()
        bots = [wanted] if wanted else self._discord.coze_bot
        awake = [bot for bot in bots if self._bots_cooling_until.get(bot, 0.0) <= now]
        if awake:
            return random.choice(awake)
        if not bots:
            raise GatewayError(
                503, "No Coze bot to ask: configure coze.discord.coze_bot.", code="no_bot"
            )
        raise GatewayError(
            429,
            "The Coze bots of the channel have used up their credits.",
            code="coze_quota",
            retry_after=min(self._bots_cooling_until[bot] for bot in bots) - now,
            headers=NO_RETRY,
        )

    async def _with_files(self, ask: schema.BridgeRequest) -> str:
        """The question with the addresses of its uploaded files."""
        lines = [ask.text] if ask.text else []
        for file in ask.files:
            try:
                data = await asyncio.to_thread(base64.b64decode, file.data, None, True)
            except binascii.Error:
                raise bad_request("The picture is not valid base64.", param="messages") from None
            request = channel.upload_request(
                self._discord, self._proxy, file, data, uuid.uuid4().hex
            )
            posted = channel.read_posted(await self._send(request))
            attachments = posted.attachments or []
            if not attachments or not attachments[0].url:
                raise channel.post_error(502, schema.DiscordError(message="no attachment"))
            lines.append(attachments[0].url)
        return "\n".join(lines)

    async def _post(self, text: str, bot_id: str) -> tuple[channel.Question, channel.Sender]:
        """Posts the question by one account at random, as often and as fast as Discord allows."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _POST_SECONDS
        nonce = uuid.uuid4().hex[:25]
        again: channel.Sender | None = None
        tries = 0
        while True:
            sender = again or random.choice(self._senders.usable(loop.time()))
            request = channel.post_request(
                self._discord, self._proxy, sender.token, text, bot_id, nonce
            )
            async with self._post_locks[id(sender)]:
                await _wait_for(sender, deadline)
                if sender.cooldown_until > loop.time():
                    again = None  # refused while this question waited for the lock
                    continue
                tries += 1
                try:
                    reply = await self._send(request)
                except GatewayError:
                    # It may have been posted: the same account with the same nonce finds out.
                    if tries == _POST_TRIES or loop.time() > deadline:
                        raise
                    again = sender
                    continue
                may_repeat = self._senders.learn(sender, reply, loop.time())
            if reply.status < 300:
                return self._channel.expect(channel.read_posted(reply).id), sender
            if not may_repeat or tries == _POST_TRIES:
                break
            again = sender if reply.status >= 500 else None
            if again is not None:
                await asyncio.sleep(0.2 * tries)
        channel.read_posted(reply)
        raise AssertionError("a refused post has raised")

    async def _send(self, request: UpstreamRequest) -> UpstreamReply:
        try:
            async with asyncio.timeout(_POST_SECONDS):
                response = await self._clients.open(request)
                return await read_whole(response, _MAX_REPLY_BYTES)
        except TimeoutError:
            raise GatewayError(
                504, "Discord did not answer in time.", code="upstream_timeout"
            ) from None

    async def _stream_replies(
        self,
        response: "web.StreamResponse",
        ask: schema.BridgeRequest,
        question: channel.Question,
        sender: channel.Sender,
        bot_id: str,
        began: float,
    ) -> None:
        """Streams replies until the answer is done, quiet for quiet_seconds, or times out."""
        loop = asyncio.get_running_loop()
        config, never = self._discord, float("inf")
        whole_by = never
        idle = config.request_stream_out_time or _DEFAULT_OUT_SECONDS
        if not ask.stream:
            whole_by, idle = began + (config.request_out_time or _DEFAULT_OUT_SECONDS), never
        wake = asyncio.Event()
        question.wake = wake.set
        has_text, heard_at, wrote_at = False, loop.time(), loop.time()
        while True:
            fresh, question.fresh = question.fresh, []
            for state in {state.id: state for state in fresh}.values():  # the last of each
                if found := channel.spent(state.text):
                    self._cool_down(found, sender, bot_id)
                    failure = channel.spent_failure(found, state.text)
                    await response.write(_event("failed", failure))
                    return
                await response.write(_event("reply", state))
                if state.is_done:
                    return
                has_text = has_text or bool(state.text or state.extra)
                heard_at = wrote_at = loop.time()
            quiet_at = self._quiet_at(heard_at) if has_text else never
            late_at = min(heard_at + idle, whole_by)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(quiet_at, late_at, wrote_at + _COMMENT_SECONDS)):
                    await wake.wait()
            wake.clear()
            if question.fresh:
                continue
            now = loop.time()
            if has_text and now >= self._quiet_at(heard_at):
                await response.write(_event("quiet", {}))
                return
            if now >= late_at:
                what = "is not whole" if has_text else "did not come"
                failure = schema.Failure(
                    504, f"The Coze bot's answer {what} in time.", "upstream_timeout"
                )
                await response.write(_event("failed", failure))
                return
            if now >= wrote_at + _COMMENT_SECONDS:
                await response.write(b": waiting\n\n")
                wrote_at = now

    def _quiet_at(self, heard_at: float) -> float:
        """When an answer counts as quiet: never while there is no session to receive by."""
        if not self._in_session.is_set():
            return float("inf")
        return max(heard_at, self._in_session_since) + self._discord.quiet_seconds

    def _cool_down(self, found: channel.Spent, sender: channel.Sender, bot_id: str) -> None:
        until = asyncio.get_running_loop().time() + channel.QUOTA_SECONDS
        if found.cools == "sender":
            sender.cooldown_until = until
        elif found.cools == "bot":
            self._bots_cooling_until[bot_id] = until


async def _wait_for(sender: channel.Sender, deadline: float) -> None:
    """Waits until the account may post. Raises GatewayError 429 if that is after the deadline."""
    loop = asyncio.get_running_loop()
    wait = sender.free_at - loop.time()
    if loop.time() + max(wait, 0.0) > deadline:
        raise GatewayError(
            429,
            "Discord's rate limit for the accounts of coze.discord.auth is reached.",
            code="rate_limited",
            retry_after=max(wait, 1.0),
        )
    if wait > 0:
        await asyncio.sleep(wait)


def _event(name: str, data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))


def _new_client(bridge: Bridge) -> "discord.Client":
    import discord
    import yarl

    config = bridge._discord
    # Two warnings about packages for voice, which nobody needs here.
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
    # Read when a request or a connection is made; discord.py has no parameter for them.
    discord.http.Route.BASE = join_url(config.api_url, "/api/v10")
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(join_url(config.gateway_url, "/"))

    class Client(discord.Client):
        async def on_socket_raw_receive(self, text: str) -> None:
            bridge.on_payload(text)

        async def on_disconnect(self) -> None:
            bridge.on_disconnect()

    client = Client(
        # MESSAGE_CONTENT is privileged: without it answers arrive empty, their end included.
        intents=discord.Intents(guilds=True, guild_messages=True, message_content=True),
        max_messages=None,  # the cache changes messages while handlers still read them
        enable_debug_events=True,  # the raw payloads, the most exact source
        chunk_guilds_at_startup=False,
        proxy=bridge._proxy,
    )
    # The raw payloads are read here; discord.py's own reading of a partial update, which has no
    # author, would end the session with a KeyError.
    for name in ("MESSAGE_CREATE", "MESSAGE_UPDATE"):
        client._connection.parsers.pop(name, None)
    return client


async def _until_signalled() -> None:
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(group_signals.LEAVE, leave.set)
    while not leave.is_set() and main_process.is_alive():
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await leave.wait()
