"""Bing and Coze through a running gateway, as the official OpenAI client sees them."""

import base64
import json
import time

import httpx
import openai
import pytest

from tests.server.bing_coze import COZE_BOTS, config_for
from tests.server.running import Running

JPEG = base64.b64encode(b"\xff\xd8\xff\xe0\x00\x10JFIF").decode()


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("bing-coze"), config_for(simulator.url)).wait()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/c/v1", api_key="pool", max_retries=0) as client:
        yield client


def complete(client, content, provider, model="gpt-4", **more):
    headers = more.pop("headers", None)
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": content}],
        extra_body={"provider": provider, **more},
        extra_headers=headers,
    )


def stream(client, content, provider, model="gpt-4", **more):
    """The text, the finish reason and the last chunk of a streamed answer."""
    headers = more.pop("headers", None)
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": content}],
            stream=True,
            extra_body={"provider": provider, **more},
            extra_headers=headers,
        )
    )
    told = [chunk for chunk in chunks if chunk.choices]
    assert len({chunk.id for chunk in chunks}) == 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in told)
    return text, told[-1].choices[0].finish_reason, chunks[-1]


def refused(client, content, provider, **more):
    with pytest.raises(openai.APIStatusError) as caught:
        complete(client, content, provider, **more)
    return caught.value


# -- Bing


def test_bing_answers_streamed_and_not(client):
    answer = complete(client, "Hello Bing", "bing")
    assert answer.choices[0].message.content == "You said: Hello Bing"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.bing["conversationId"].startswith("51D|")
    text, reason, last = stream(client, "Hello Bing", "bing")
    assert (text, reason) == ("You said: Hello Bing", "stop")
    assert last.bing["throttling"] == {"used": 1, "max": 30}


def test_a_bing_conversation_goes_on_with_what_its_answer_brought(client):
    first = complete(client, "One", "bing")
    second = complete(client, "Two", "bing", bing={"conversation": first.bing})
    assert second.choices[0].message.content == "You said: Two (turn 2)"
    third = complete(client, "Three", "bing", bing=second.bing)
    assert third.choices[0].message.content == "You said: Three (turn 3)"
    assert third.bing["traceId"] == first.bing["traceId"]


def test_bing_tells_history_to_a_new_conversation(client):
    answer = client.chat.completions.create(
        model="bing/gpt-4-precise",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
    )
    assert answer.choices[0].message.content == "You said: Hi (with context)"


def test_bing_sees_a_picture(client):
    content = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{JPEG}"}},
    ]
    answer = complete(client, content, "bing")
    assert answer.choices[0].message.content == "You said: What? (with a picture)"
    assert "/images/blob?bcid=" in answer.bing["imageUrl"]
    again = complete(client, "And now?", "bing", bing=answer.bing)
    assert again.choices[0].message.content == "You said: And now? (turn 2)"
    assert complete(client, "x", "bing", bing={"imageBase64": JPEG}).bing["imageUrl"]


@pytest.mark.parametrize(
    ("word", "text", "reason"),
    [
        ("search", "You said: x/sim-search\n\n[^1^]: [A page](https://page.example/)", "stop"),
        ("two", "You said: x/sim-two\n\nAnd more.", "stop"),
        ("edit", "You said: x/sim-edit", "stop"),
        ("disengaged", "You", "content_filter"),
        ("apology", "You", "content_filter"),
        ("split-7", "You said: x/sim-split-7", "stop"),
    ],
)
def test_bing_keeps_notes_out_and_links_in(client, word, text, reason):
    assert stream(client, f"x/sim-{word}", "bing")[:2] == (text, reason)


def test_a_drawing_order_is_a_link(client):
    text, _, _ = stream(client, "cat/sim-draw", "bing")
    assert "/images/create?q=cat%2Fsim-draw\n\nYou said" in text


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("captcha", 403, "captcha_required"),
        ("throttled", 429, "rate_limit_exceeded"),
        ("expired", 400, "conversation_expired"),
        ("limit", 400, "conversation_limit"),
        ("closed", 502, "upstream_error"),
        ("close-after-0", 502, "upstream_cut"),
        ("cut-after-0", 502, "upstream_cut"),
    ],
)
def test_every_refusal_of_bing_is_a_true_status(client, word, status, code):
    error = refused(client, f"x/sim-{word}", "bing")
    assert (error.status_code, error.code) == (status, code)


def test_a_bing_answer_that_breaks_off_says_so_in_the_stream(client):
    with pytest.raises(openai.APIError) as caught:
        stream(client, "x y z/sim-cut-after-4", "bing")
    assert caught.value.code == "upstream_cut"


@pytest.mark.parametrize(("fault", "status"), [("403", 502), ("404", 502), ("429", 429)])
def test_a_refused_conversation_is_told(simulator, client, fault, status):
    simulator.fault(fault, path="/bing/turing")
    assert refused(client, "x", "bing").status_code == status


def test_bings_own_doors(gateway):
    url = f"{gateway.url}/bing/conversation"
    made = httpx.post(url).json()
    assert set(made) == {"conversationId", "clientId", "signature", "traceId"}
    assert made["traceId"] == ""
    listed = httpx.get(url).json()
    assert made["conversationId"] in [c["conversationId"] for c in listed["chats"]]
    body = {"messages": [{"role": "user", "content": "Hi"}], "bing": {"conversation": made}}
    answer = httpx.post(f"{gateway.url}/bing/message", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "You said: Hi"
    gone = {
        "conversationId": made["conversationId"],
        "conversationSignature": made["signature"],
        "participant": {"id": made["clientId"]},
    }
    assert httpx.request("DELETE", url, json=gone).json()["result"]["value"] == "Success"
    assert httpx.request("DELETE", url, json=gone).status_code == 502
    assert httpx.request("DELETE", url, json={}).json()["error"]["param"] == "conversationId"


def test_a_caller_who_leaves_bing_leaves_no_socket_behind(simulator, gateway):
    body = {
        "provider": "bing",
        "stream": True,
        "messages": [{"role": "user", "content": "a b c d e/sim-drip-300"}],
    }
    with httpx.stream("POST", f"{gateway.url}/c/v1/chat/completions", json=body) as answer:
        next(answer.iter_raw())
    simulator.wait_for(lambda stats: stats["open"]["requests"] <= 1)  # the bridge's session


# -- Coze's API


@pytest.mark.parametrize("model", ["coze-api", "coze/coze-api"])
def test_coze_answers_streamed_and_not(client, model):
    provider = None if "/" in model else "coze"
    headers = {"x-auth-id": "u1"}
    answer = complete(client, "Hello", provider, model=model, headers=headers)
    assert answer.choices[0].message.content == "You said: Hello"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > 0
    assert answer.coze["bot_id"] == "73790001"
    assert answer.coze["user"] == "u1"
    text, reason, last = stream(client, "Hello", provider, model=model, headers=headers)
    assert (text, reason) == ("You said: Hello", "stop")
    assert last.coze["type"] == "api"
    assert last.coze["conversation_id"].isdigit()


def test_a_coze_conversation_goes_on(client):
    headers = {"x-auth-id": "u1"}
    first = complete(client, "One", "coze", model="coze-api", headers=headers)
    second = complete(client, "Two", "coze", model="coze-api", coze={"conversation": first.coze})
    assert second.choices[0].message.content == "You said: Two (turn 2)"
    assert second.coze == first.coze


@pytest.mark.parametrize(("provider", "model"), [("bing", "gpt-4"), ("coze", "coze-api")])
def test_a_kept_answer_goes_on_in_its_conversation(client, provider, model):
    """Of POST /responses: the turn's id is enough, and only what is new is sent."""
    previous, said = None, []
    for text in ("One", "Two", "Three"):
        # Which bot is wanted has to be said once.
        headers = {"x-auth-id": "u1"} if provider == "coze" and previous is None else None
        answer = client.responses.create(
            model=model,
            input=text,
            previous_response_id=previous,
            extra_body={"provider": provider},
            extra_headers=headers,
        )
        previous = answer.id
        said.append(answer.output_text)
    assert said[1:] == ["You said: Two (turn 2)", "You said: Three (turn 3)"]


def test_the_callers_own_coze_token_and_bot_are_used(simulator, client, gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/c/v1", api_key="pat_mine", max_retries=0) as own:
        headers = {"x-bot-id": "555", "x-auth-id": "me"}
        answer = complete(own, "Hi", "coze", model="coze-api", headers=headers)
    assert (answer.coze["bot_id"], answer.coze["user"]) == ("555", "me")
    (seen,) = simulator.last(1, key="pat_mine")
    assert seen["json"]["bot_id"] == "555"
    body = {"conversation": {"bot_id": "73790002"}}
    complete(client, "Hi", "coze", model="coze-api", coze=body)
    assert simulator.last(1, key="pat_own")[0]["json"]["user_id"] == "u2"


def test_a_picture_is_uploaded_to_coze(client):
    content = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    answer = complete(client, content, "coze", model="coze-api", headers={"x-auth-id": "u1"})
    assert answer.choices[0].message.content == "You said: What? (with 1 files)"


@pytest.mark.parametrize(
    ("bot", "status", "code"),
    [
        ("code-4016", 400, "coze_4016"),
        ("code-4008", 429, "coze_4008"),
        ("event-5000", 502, "coze_5000"),
        ("nope", 400, "unknown_bot"),
    ],
)
def test_every_refusal_of_coze_is_a_true_status(client, bot, status, code):
    error = refused(client, "x", "coze", model="coze-api", headers={"x-bot-id": bot})
    assert (error.status_code, error.code) == (status, code)


def test_a_coze_answer_that_breaks_off_says_so_in_the_stream(client):
    with pytest.raises(openai.APIError) as caught:
        headers = {"x-bot-id": "sim-cut-after-4"}
        stream(client, "a b c", "coze", model="coze-api", headers=headers)
    assert caught.value.code == "upstream_cut"


def test_a_left_coze_chat_is_cancelled_so_that_its_conversation_goes_on(simulator, gateway, client):
    body = {
        "provider": "coze",
        "model": "coze-api",
        "stream": True,
        "messages": [{"role": "user", "content": "a b c d e f"}],
    }
    headers = {"x-bot-id": "sim-drip-200"}
    url = f"{gateway.url}/c/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers) as answer:
        line = next(line for line in answer.iter_lines() if '"You"' in line)
    coze = json.loads(line.removeprefix("data: "))["coze"]
    end, cancelled = time.monotonic() + 5, []
    while coze["conversation_id"] not in cancelled and time.monotonic() < end:
        seen = simulator.last(20, path="/coze/v3/chat/cancel")
        cancelled = [record["json"]["conversation_id"] for record in seen]
    assert coze["conversation_id"] in cancelled
    again = complete(client, "x", "coze", model="coze-api", coze={"conversation": coze})
    assert again.choices[0].message.content == "You said: x (turn 2)"


# -- Coze over Discord


@pytest.fixture(scope="module")
def discord(gateway, client):
    """The client, once the bridge has its session."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        try:
            complete(client, "awake?", "coze")
            return client
        except openai.APIStatusError:
            time.sleep(0.1)
    raise AssertionError(gateway.err.read_text())


def test_discord_answers_streamed_and_not(discord):
    answer = complete(discord, "Hello", "coze")
    assert answer.choices[0].message.content == "You said: Hello"
    assert answer.coze["type"] == "discord"
    assert answer.coze["bot_id"] in COZE_BOTS
    text, reason, last = stream(discord, "Hello", "coze", headers={"x-bot-id": COZE_BOTS[1]})
    assert (text, reason) == ("You said: Hello", "stop")
    assert last.coze["bot_id"] == COZE_BOTS[1]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("early", "You said: x/early"),
        ("partial", "You said: x/partial"),
        ("nobuttons", "You said: x/nobuttons"),
        ("second", "You said: x/second\nAnd more."),
        ("rewrite", "You said: x/rewrite"),
        (
            "picture",
            "You said: x/picture\nhttps://cdn.example/p.png\n![Image](https://cdn.example/p.png)",
        ),
    ],
)
def test_discord_answers_are_whole_however_they_come(discord, word, text):
    assert stream(discord, f"x/{word}", "coze")[:2] == (text, "stop")


def test_a_picture_is_uploaded_to_the_channel(discord):
    content = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    text = complete(discord, content, "coze").choices[0].message.content
    assert text.startswith("You said: What?\nhttps://cdn.example/")


def test_too_long_a_question_is_the_callers_fault(discord):
    assert refused(discord, "x" * 1889, "coze").status_code == 400


def test_no_secret_of_these_upstreams_is_in_the_logs(gateway, discord):
    complete(discord, "Hello", "coze")
    said = gateway.out.read_text() + gateway.err.read_text()
    for secret in ("pat_global", "pat_own", "pat_mine", "bot-listener", "user-one"):
        assert secret not in said
