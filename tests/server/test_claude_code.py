"""The real Claude Code on /c, before Claude, OpenAI, Gemini and a compatible upstream."""

import base64
import json
import re
import struct
import zlib

import pytest

from tests.server.claude_code import ClaudeCode
from tests.server.conftest import config_for
from tests.server.hosts import upstream
from tests.server.running import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # the first one installs

# The model, and the path of its upstream at the simulator.
MODELS = {
    "claude-sonnet-4-5": "/claude",
    "openai/gpt-5": "/openai",
    "gemini/gemini-2.5-flash": "/gemini",
    "gemini/gemini-3-pro": "/gemini",
    "groq/openai/gpt-oss-20b": "/compatible/groq",
}


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


RED = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress((b"\0" + b"\xff\0\0" * 8) * 8))
    + chunk(b"IEND", b"")
)
PAGE = b"""%PDF-1.4
1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj
2 0 obj <</Type/Pages/Kids[3 0 R]/Count 1>> endobj
3 0 obj <</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>> endobj
trailer <</Root 1 0 R>>
%%EOF
"""


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    config = config_for(
        simulator.url,
        openai={
            "api_url": f"{simulator.url}/openai",
            "api_keys": [{"id": "a", "val": "sk-code-a"}, {"id": "b", "val": "sk-code-b"}],
        },
        claude={
            "api_url": f"{simulator.url}/claude",
            "api_keys": [{"id": i, "val": f"sk-ant-api03-code-{i}"} for i in "ab"],
        },
        google_gemini={
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": i, "val": f"AIza-code-{i}"} for i in "ab"],
        },
        upstreams=[upstream(simulator.url, "groq")],
        models={"claude-haiku-*": "gemini/gemini-2.5-flash"},
    )
    with running(tmp_path_factory.mktemp("claude-code"), config) as running_gateway:
        yield running_gateway


@pytest.fixture(params=MODELS)
def model(request):
    return request.param


@pytest.fixture
def code(gateway, tmp_path, model):
    return ClaudeCode(tmp_path, gateway.url, model)


@pytest.fixture
def counted(simulator, model):
    """How many requests have reached the model's upstream since the test began."""
    simulator.reset()
    return lambda: len(simulator.last(100, path=MODELS[model]))


def check(said, result, turns=1):
    assert said["result"] == result, said
    assert (said["subtype"], said["is_error"], said["num_turns"]) == ("success", False, turns)
    assert said["usage"]["input_tokens"] > 0 and said["usage"]["output_tokens"] > 0
    assert said["permission_denials"] == []


def test_a_question(code, counted):
    check(code.ask("hello"), "You said: hello")
    assert counted() == 1


def test_a_file_is_read(code, counted):
    file = code.work / "notes.txt"
    file.write_text("the sky is green\n")
    said = code.ask(f"read {file}")
    assert said["result"].startswith(f"{file} says: ") and "the sky is green" in said["result"]
    assert (said["is_error"], said["num_turns"], counted()) == (False, 2, 2)


def test_a_file_is_edited(code, counted):
    file = code.work / "notes.txt"
    file.write_text("the sky is green\nand so on\n")
    prompt = f'Please read {file} and replace "is green" by "is blue".'
    said = code.ask(prompt, "--permission-mode", "acceptEdits")
    check(said, f'Replaced "is green" by "is blue" in {file}.', turns=3)
    assert file.read_text() == "the sky is blue\nand so on\n"
    assert counted() == 3


def test_a_picture_and_a_pdf_are_read_at_once(code, counted, simulator, model):
    picture, document = code.work / "red.png", code.work / "page.pdf"
    picture.write_bytes(RED)
    document.write_bytes(PAGE)
    files = " and ".join(f'Read with {{"file_path": "{file}"}}' for file in (picture, document))
    said = code.ask(f"call {files}")
    assert (said["subtype"], said["is_error"], said["num_turns"]) == ("success", False, 3), said
    assert counted() == 2
    sent = json.dumps(simulator.last(1, path=MODELS[model])[0]["json"])
    assert re.search(r"image/(png|jpeg|webp)", sent)  # Claude Code may have made it smaller
    assert base64.b64encode(PAGE).decode() in sent


def test_a_missing_file_is_told_and_not_asked_for_again(code, counted):
    said = code.ask(f"read {code.work}/nothing.txt")
    assert said["result"].startswith("The tool failed: ") and "not exist" in said["result"]
    assert (said["is_error"], counted()) == (False, 2)


def test_a_stream_cut_at_its_start_is_asked_again_once(code, counted, simulator, model):
    simulator.fault("cut-after-1", path=MODELS[model])
    check(code.ask("one two three"), "You said: one two three")
    assert counted() == 2


def test_a_stream_cut_in_its_text_is_gone_on_with(code, counted, simulator, model):
    simulator.fault("cut-after-9", path=MODELS[model])
    said = code.ask("one two three four five six seven eight nine ten eleven twelve")
    assert said["subtype"] == "success" and not said["is_error"], said
    assert "error" not in said["result"].lower()
    assert counted() <= 3


def test_a_429_of_one_key_is_not_seen(code, counted, simulator, model):
    simulator.fault("429", path=MODELS[model])
    check(code.ask("hello"), "You said: hello")
    assert counted() == 2


def test_a_429_of_all_keys_is_waited_for(code, counted, simulator, model):
    keys = 1 if model.startswith("groq") else 2
    simulator.fault("429-after-2", times=keys, path=MODELS[model])
    check(code.ask("hello"), "You said: hello")
    assert counted() == keys + 1


def test_a_conversation_is_resumed(code, counted):
    file = code.work / "notes.txt"
    file.write_text("the sky is green\n")
    first = code.ask(f"read {file}")
    said = code.ask("and now?", "--resume", first["session_id"])
    check(said, "You said: and now?")
    assert said["session_id"] == first["session_id"]
    assert counted() == 3


def test_fixed_names_of_claude_code_lead_to_another_house(gateway, tmp_path):
    code = ClaudeCode(tmp_path, gateway.url, "claude-haiku-4-5")
    said = code.ask("hello from an alias")
    check(said, "You said: hello from an alias")
    assert list(said["modelUsage"]) == ["claude-haiku-4-5"]
    line = gateway.wait_log(model="gemini-2.5-flash")[-1]
    assert (line["front"], line["provider"]) == ("anthropic", "gemini-api")


def test_the_context_is_counted(code, gateway):
    said = code.ask("/context")
    assert (said["subtype"], said["is_error"]) == ("success", False), said
    assert "tokens" in said["result"].lower()


def test_an_answer_of_a_schema(code):
    schema = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'
    said = code.ask('call StructuredOutput with {"city": "Paris"}', "--json-schema", schema)
    assert said["structured_output"] == {"city": "Paris"}, said
