"""The Discord bridge under load and in trouble: no answer lost, none to the wrong asker."""

import asyncio
import json
import os
import signal
import time
import urllib.request

import openai
import pytest

from tests.server.bing_coze import config_for
from tests.server.running import children, running


def gateway_does(simulator, what):
    """Discord's gateway drops its clients, or asks them to reconnect."""
    data = json.dumps({"do": what}).encode()
    request = urllib.request.Request(f"{simulator.url}/discord/_gateway", data, method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def client_of(gateway):
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/c/v1", api_key="pool", max_retries=0)


async def ask(client, content, stream=True):
    """The text, or the error."""
    try:
        answer = await client.chat.completions.create(
            model="gpt-4",
            messages=[{"role": "user", "content": content}],
            stream=stream,
            extra_body={"provider": "coze"},
        )
        if not stream:
            return answer.choices[0].message.content
        text, reason = "", None
        async for chunk in answer:
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
                reason = chunk.choices[0].finish_reason or reason
        assert reason == "stop"
        return text
    except openai.APIError as error:
        return error


async def until_answered(client, seconds):
    """How long it took until a question was answered again."""
    began = time.monotonic()
    while True:
        answer = await ask(client, "there?")
        if answer == "You said: there?":
            return time.monotonic() - began
        assert time.monotonic() - began < seconds, answer
        await asyncio.sleep(0.1)


def bridge_of(gateway):
    """The bridge's pid: the child that listens on its port and serves nothing else."""
    port = json.loads(gateway.file.read_text())["coze"]["discord"]["bridge_port"]
    inodes = set()
    with open("/proc/net/tcp") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for pid in children(gateway.process.pid):
        held = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        if inodes & held:
            return pid
    raise AssertionError("no bridge")


def run(coroutine):
    return asyncio.run(coroutine)


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    config = config_for(simulator.url, quiet_seconds=5) | {"workers": 4}
    with running(tmp_path_factory.mktemp("bridge"), config) as found:

        async def begin():
            async with client_of(found) as client:
                await until_answered(client, 20)

        run(begin())
        yield found


@pytest.mark.slow
def test_two_hundred_at_once_in_four_workers_each_get_their_own_answer(gateway):
    words = ["", "/early", "/second", "/partial", "/slow-50"]

    async def all_at_once():
        async with client_of(gateway) as client:
            questions = [f"number {i}{words[i % len(words)]}" for i in range(200)]
            asked = [ask(client, q, stream=i % 2 == 0) for i, q in enumerate(questions)]
            return list(zip(questions, await asyncio.gather(*asked), strict=True))

    answers = run(all_at_once())
    wrong = [
        (question, answer)
        for question, answer in answers
        if answer != f"You said: {question}" + ("\nAnd more." if "/second" in question else "")
    ]
    assert wrong == []
    assert len(gateway.workers()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("what", ["drop", "reconnect", "resumable", "forget", "invalid"])
def test_a_lost_gateway_connection_loses_no_answer(simulator, gateway, what):
    """Resumed sessions are told what they missed; a new one reads the channel again."""

    async def interrupted():
        async with client_of(gateway) as client:
            asked = [asyncio.create_task(ask(client, f"n{i}/slow-400")) for i in range(10)]
            await asyncio.sleep(0.7)
            gateway_does(simulator, what)
            answers = await asyncio.gather(*asked)
            return answers, await until_answered(client, 10)

    answers, _ = run(interrupted())
    assert answers == [f"You said: n{i}/slow-400" for i in range(10)]


@pytest.mark.slow
def test_a_killed_bridge_fails_its_waiting_callers_and_serves_later_ones(gateway):
    async def killed():
        async with client_of(gateway) as client:
            asked = [asyncio.create_task(ask(client, f"n{i}/slow-1000")) for i in range(10)]
            await asyncio.sleep(0.8)
            os.kill(bridge_of(gateway), signal.SIGKILL)
            return await asyncio.gather(*asked), await until_answered(client, 10)

    answers, seconds = run(killed())
    assert all(isinstance(answer, openai.APIError) for answer in answers)
    assert {answer.code for answer in answers} <= {"upstream_cut", "upstream_unreachable"}
    assert seconds < 10


@pytest.mark.slow
def test_a_silent_bot_is_an_error_in_time_and_a_slow_one_is_not(simulator, tmp_path):
    limits = {"request_out_time": 2, "request_stream_out_time": 1, "quiet_seconds": 30}
    with running(tmp_path, config_for(simulator.url, **limits)) as gateway:

        async def wait():
            async with client_of(gateway) as client:
                await until_answered(client, 20)
                return await asyncio.gather(
                    ask(client, "x/silent"),
                    ask(client, "x/hang"),
                    ask(client, "x/silent", stream=False),
                    ask(client, "x/slow-700"),
                )

        silent, hanging, whole, slow = run(wait())
    assert (silent.status_code, silent.code) == (504, "upstream_timeout")
    assert hanging.code == "upstream_timeout"  # in the stream, after some text
    assert (whole.status_code, whole.code) == (504, "upstream_timeout")
    assert slow == "You said: x/slow-700"


@pytest.mark.slow
def test_limits_of_the_accounts_are_obeyed(simulator, tmp_path):
    """Ten posts by two accounts of three a second: all are answered, and none is refused."""
    accounts = ["user-a-rate-3", "user-b-rate-3", "user-dead", "user-locked"]
    with running(tmp_path, config_for(simulator.url, auth=accounts)) as gateway:

        async def many():
            async with client_of(gateway) as client:
                await until_answered(client, 20)
                return await asyncio.gather(*(ask(client, f"n{i}") for i in range(10)))

        answers = run(many())
    assert answers == [f"You said: n{i}" for i in range(10)]
    by_key = simulator.stats()["by_key"]
    assert "status_429" not in by_key["user-a-rate-3"]
    assert "status_429" not in by_key["user-b-rate-3"]
    assert by_key.get("user-dead", {}).get("status_401", 0) <= 1
    assert by_key.get("user-locked", {}).get("status_403", 0) <= 1


@pytest.mark.slow
def test_a_spent_account_is_told_as_a_limit_and_spared(simulator, tmp_path):
    with running(tmp_path, config_for(simulator.url, auth=["user-only"])) as gateway:

        async def twice():
            async with client_of(gateway) as client:
                await until_answered(client, 20)
                return [await ask(client, "x/spent"), await ask(client, "again")]

        first, second = run(twice())
    assert (first.status_code, first.code) == (429, "coze_quota")
    assert first.response.headers["x-should-retry"] == "false"
    assert (second.status_code, second.code) == (503, "no_sender")


@pytest.mark.slow
@pytest.mark.parametrize("token", ["wrong", "bot-nointent"])
def test_a_refused_bot_token_is_told_and_not_tried_in_a_loop(simulator, tmp_path, token):
    before = gateway_does(simulator, "count")["identified"]
    with running(tmp_path, config_for(simulator.url, chat_bot_token=token)) as gateway:

        async def once():
            async with client_of(gateway) as client:
                return await ask(client, "x")

        error = run(once())
        time.sleep(3)
    assert (error.status_code, error.code) in [
        (503, "no_discord_session"),
        (502, "upstream_unreachable"),
    ]
    assert gateway_does(simulator, "count")["identified"] - before <= 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_answers_that_are_under_way_come_when_the_whole_process_group_is_told_to_stop(
    simulator, tmp_path, number
):
    with running(tmp_path, config_for(simulator.url)) as gateway:

        async def stopped():
            async with client_of(gateway) as client:
                await until_answered(client, 20)
                asked = [asyncio.create_task(ask(client, f"n{i}/slow-400")) for i in range(4)]
                await asyncio.sleep(0.8)
                os.killpg(gateway.process.pid, number)
                return await asyncio.gather(*asked)

        assert run(stopped()) == [f"You said: n{i}/slow-400" for i in range(4)]
        assert gateway.process.wait(15) == 0
        gateway.wait_gone()
    assert "Traceback" not in gateway.err.read_text()
