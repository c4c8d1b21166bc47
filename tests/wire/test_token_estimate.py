"""The estimate of a prompt's tokens, and what is learned of each model."""

import json
import re

import pytest

from app.wire.front import Incoming
from app.wire.token_estimate import LearnedFactors, prompt_tokens, text_tokens
from tests.calls import FRONTS, chat_of
from tests.fronts.messages_calls import chat_of as chat_of_messages
from tests.recorded import recorded

# Texts of our own with the tokens that OpenAI's o200k_base makes of them.
ENGLISH = """A gateway stands between programs and the services they call. Whoever runs one wants
three things of it: that it adds no delay worth measuring, that a failing service is noticed and
left alone until it has recovered, and that nobody's credentials end up in a log file. The first of
these is a matter of doing little per request. The second needs a memory of what went wrong, shared
by every process. The third is mostly discipline: "never print what you did not write yourself" is
a good rule, although it doesn't help much at 3 a.m. when something's broken & the only clue is in a
header.
"""
CHINESE = """网关位于程序与其所调用的服务之间。运行网关的人对它有三个要求:不增加可以察觉的延迟;
某个服务出现故障时能够及时发现,并在其恢复之前不再打扰它;任何人的密钥都不会出现在日志文件里。
第一点要求每个请求只做很少的事情。第二点需要记住哪里出了问题,并让所有进程共享这份记忆。
第三点主要靠纪律:“不要打印不是你自己写的内容”是一条好规矩,尽管凌晨三点系统崩溃、
唯一的线索藏在请求头里的时候,它并没有多大帮助。
"""
CODE = """def merge(left: list[int], right: list[int]) -> list[int]:
    result: list[int] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]


for (const [name, value] of Object.entries(headers)) {
  if (!name.startsWith("x-")) continue;
  out[name.toLowerCase()] = value?.trim() ?? "";
}
SELECT u.id, COUNT(*) AS n FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY 1;
"""
TOOLS = json.loads((recorded("claude-code") / "start.json").read_bytes())["body"]["tools"]


PROMPT = re.compile(rb'"(?:prompt_tokens|input_tokens|promptTokenCount)": ?(\d+)')


def recorded_prompts(family, front):
    """Each recorded request's estimate, and the tokens that the vendor told."""
    for name, request in json.loads((recorded(family) / "requests.json").read_bytes()).items():
        file = recorded(family) / name
        told = PROMPT.findall(file.read_bytes()) if file.exists() else []
        body = request.get("body") or request.get("request_body") or {}
        if told and (body.get("messages") or body.get("contents")):
            assert front.read is not None
            raw = json.dumps(body).encode()
            params = {"version": "v1beta", "target": "models/m:generateContent"}
            asked = front.glance(Incoming("", params, "", {}, raw))
            yield name, prompt_tokens(front.read(asked)), int(told[-1])


def near(estimate, told, more=0):
    """Ten percent below to forty above; `more` tokens above for what is hardly more than words."""
    return 0.9 * told <= estimate <= 1.4 * told + more


@pytest.mark.parametrize(("text", "told"), [(ENGLISH, 133), (CHINESE, 149), (CODE, 161)])
def test_texts_of_every_kind_are_estimated_as_they_are_counted(text, told):
    assert near(text_tokens(text), told)


def test_tools_are_estimated_as_they_are_counted():
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "m", "max_tokens": 9}
    with_tools, without = (
        prompt_tokens(chat_of_messages(body | t)) for t in ({"tools": TOOLS}, {})
    )
    assert near(with_tools - without, 1420)  # of o200k_base, as JSON


def test_openais_recorded_counts_are_estimated():
    found = list(recorded_prompts("openai", FRONTS["openai-chat"]))
    assert len(found) > 8
    for name, estimate, told in found:
        assert near(estimate, told, more=12), (name, estimate, told)


@pytest.mark.parametrize(
    ("family", "front"),
    [("claude", "anthropic"), ("openai-compatible", "openai-chat"), ("gemini", "gemini")],
)
def test_a_recorded_count_is_higher_by_what_a_vendor_adds_to_tools_and_no_more(family, front):
    found = list(recorded_prompts(family, FRONTS[front]))
    assert len(found) > 8
    for name, estimate, told in found:
        # Anthropic's instructions for tools and for each result are the most.
        assert 0.9 * told - 660 <= estimate <= 1.4 * told + 80, (name, estimate, told)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("", 0, 0), ("x" * 35, 10, 10), ("\u4f60\u597d" * 5, 8, 8), ("a\u4f60", 1.0, 1.2)],
)
def test_a_text_counts_by_its_signs(text, least, most):
    assert least <= text_tokens(text) <= most


def test_every_part_of_a_prompt_counts():
    def of(**more):
        return prompt_tokens(chat_of({"messages": [{"role": "user", "content": "Hi"}]} | more))

    plain = of()
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000}}
    image = of(messages=[{"role": "user", "content": [part]}])
    assert 1600 <= image <= 1700  # whatever its size
    pdf = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 140_000}}
    assert 4000 <= of(messages=[{"role": "user", "content": [pdf]}]) <= 4100
    function = {"name": "read", "description": "d" * 70, "parameters": {"x": "y" * 70}}
    assert of(tools=[{"type": "function", "function": function}]) >= plain + 40
    schema = {"name": "s", "schema": {"description": "d" * 70}}
    assert of(response_format={"type": "json_schema", "json_schema": schema}) >= plain + 20
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "a" * 350}}
    history = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    assert of(messages=history) >= 100


def test_what_an_upstream_counts_is_learned_within_bounds():
    learned = LearnedFactors()
    assert learned.applied("m", 1000) == 1000
    learned.learn("m", 1000, 1300)
    assert learned.applied("m", 1000) == 1300
    assert learned.applied("other", 1000) == 1000
    learned.learn("m", 1000, 1300_000)
    assert 1300 < learned.applied("m", 1000) <= 1600
    for nothing in ((0, 5), (1000, 0), (30, 540)):  # the last one is a small prompt with a tool
        learned.learn("n", *nothing)
    assert learned.applied("n", 1000) == 1000


def test_the_models_that_are_remembered_are_bounded():
    learned = LearnedFactors()
    for number in range(300):
        learned.learn(f"m{number}", 1000, 1300)
    assert learned.applied("m0", 1000) == 1000
    assert learned.applied("m299", 1000) == 1300
