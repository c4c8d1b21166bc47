"""The walk through a file: values, mistakes with their place, warnings, bounds."""

import time
from pathlib import Path

import pytest

from app.config.load import (
    load,
)
from app.config.schema import Config
from tests.config.files import ENTRY, GO_SAMPLE, PORT_WANTED, ROOT, load_text, problems_of


def test_the_go_projects_keys_load_unchanged_and_ids_stay_as_written():
    loaded = load_text(GO_SAMPLE)
    config = loaded.config
    assert [(key.id, key.val) for key in config.openai.api_keys] == [
        ("10001", "sk-one"),
        ("0123", "12345678901234567890"),
    ]
    assert [(key.id, key.val) for key in config.openai.web_sessions] == [
        ("1_000", "12:30"),
        ("yes", "on"),
    ]
    assert [(key.id, key.version) for key in config.google_gemini.api_keys] == [
        ("20001", "v1beta"),
        ("20002", ""),
    ]
    discord = config.coze.discord
    assert (discord.enable, discord.guild_id) == (False, "1205765912345678901")
    assert (discord.coze_bot, discord.auth) == (["1205765912345678903"], ["user-token"])
    assert (discord.request_out_time, discord.request_stream_out_time) == (300, 120)
    assert [bot.user for bot in config.coze.api_chat.bots] == ["1000000001"]
    assert [key.organization_id for key in config.claude.web_sessions] == ["1a2b-3c"]
    assert config.claude.api_keys == []
    assert config.openai.proxy_url == ""
    assert loaded.warnings == [
        "c.yaml:34:3: arkose: accepted, but not used: no challenge is solved here",
        "c.yaml:57:16: coze.api_chat.bots[1].bot_id: empty, so the entry is left out",
        "c.yaml:68:11: claude.web_sessions[1].val: empty, so the entry is left out",
    ]


def test_an_empty_section_means_the_defaults():
    loaded = load_text("openai:\nclaude: {}\n")
    assert loaded.config == Config()
    (warning,) = loaded.warnings
    assert warning.startswith("c.yaml:1:1: keys: there are none")


HTTP_WANTED = (
    "expected an http:// or https:// address: host, port and path if need be, no query, no password"
    "; write api_url: https://host.example"
)
PROXY_WANTED = (
    "expected a proxy's address: http://, https://, socks5:// or socks5h://, then "
    "[user:password@]host:port"
    "; write proxy_url: http://127.0.0.1:1080"
)
SECONDS_WANTED = "expected seconds, above 0 and up to 86400"
SECRET_WANTED = (
    "expected visible ASCII characters without a line break (it travels in a header)"
    "; write val: ${NAME_OF_A_VARIABLE}"
)

MISTAKES = {
    "an unknown key": ("prot: 1", ["1:1: prot: unknown key; did you mean port?"]),
    "an unknown key inside": (
        ENTRY + "    - {id: a, val: b, vla: c}",
        ["3:23: openai.api_keys[0].vla: unknown key; did you mean val?"],
    ),
    "an unknown key like no other": (
        "bing: {zzzzz: 1}",
        ["1:8: bing.zzzzz: unknown key; the keys here are web_url, ws_url, proxy_url"],
    ),
    "a key too odd to be shown": (
        "bing: {sk-abcdef: 1}",
        ["1:8: bing.?: unknown key; the keys here are web_url, ws_url, proxy_url"],
    ),
    "a list where text belongs": (
        ENTRY + "    - id: [1]\n      val: b",
        ['3:11: openai.api_keys[0].id: expected text, got a list; write id: "10001"'],
    ),
    "text where a mapping belongs": (
        ENTRY + "    - sk-1",
        ["3:7: openai.api_keys[0]: expected a mapping, got text; write id: ..., val: ..."],
    ),
    "text where a list belongs": (
        "openai:\n  api_keys: sk-1",
        ['2:13: openai.api_keys: expected a list, got text; begin each item with "- "'],
    ),
    "a list as the whole file": (
        "- a",
        ["1:1: file: expected a mapping, got a list; write port: ..., host: ..., workers: ..."],
    ),
    "a mapping as a key": (
        "? {a: b}\n: c",
        ["1:3: file: expected text as a key, got a mapping"],
    ),
    "the same id twice": (
        ENTRY + "    - {id: a, val: b}\n    - {id: a, val: c}",
        ["4:12: openai.api_keys[1].id: the same as in openai.api_keys[0]; write another"],
    ),
    "the same id twice for Claude": (
        "claude: {web_sessions: [{id: 1, val: b}, {id: 1, val: c}]}",
        ["1:47: claude.web_sessions[1].id: the same as in claude.web_sessions[0]; write another"],
    ),
    "the same id twice for Gemini": (
        "google_gemini: {api_keys: [{id: 1, val: b}, {id: 1, val: c}]}",
        [
            "1:50: google_gemini.api_keys[1].id: the same as in google_gemini.api_keys[0]"
            "; write another"
        ],
    ),
    "the same id twice, one with another mistake": (
        ENTRY + "    - {id: a, val: [b]}\n    - {id: a, val: c}",
        [
            "3:20: openai.api_keys[0].val: expected text, got a list"
            "; write val: ${NAME_OF_A_VARIABLE}",
            "4:12: openai.api_keys[1].id: the same as in openai.api_keys[0]; write another",
        ],
    ),
    "the same bot of the same user twice": (
        "coze: {api_chat: {bots: [{bot_id: 1, user: a}, {bot_id: 1, user: b},"
        " {bot_id: 1, user: a}]}}",
        ["1:79: coze.api_chat.bots[2].bot_id: the same as in coze.api_chat.bots[0]; write another"],
    ),
    "a key written twice": (
        "bing:\n  web_url:\nbing: {}",
        ["3:1: bing: written before, in line 1; keep one of the two"],
    ),
    "no id": (
        ENTRY + "    - val: b",
        ['3:7: openai.api_keys[0].id: missing; write id: "10001"'],
    ),
    "an empty id": (
        ENTRY + '    - {id: "", val: b}',
        ['3:12: openai.api_keys[0].id: empty; write id: "10001"'],
    ),
    "no val": (
        ENTRY + "    - id: b",
        ["3:7: openai.api_keys[0].val: missing; write val: ${NAME_OF_A_VARIABLE}"],
    ),
    "an id that no header can hold": (
        ENTRY + '    - {id: "a\\nb", val: c}',
        [
            "3:12: openai.api_keys[0].id: expected up to 128 visible ASCII characters "
            '(it travels in the header x-auth-id); write id: "10001"'
        ],
    ),
    "a token with the name of the console": (
        "access: {tokens: [{id: (console), val: a-token-0123456789}]}",
        [
            "1:24: access.tokens[0].id: expected up to 128 visible ASCII characters, other than "
            "(console), which is the console's playground; write id: alice"
        ],
    ),
    "a secret with a line break": (
        ENTRY + '    - {id: a, val: "c\\n"}',
        [f"3:20: openai.api_keys[0].val: {SECRET_WANTED}"],
    ),
    "a port out of range": ("port: 65536", [f"1:7: port: {PORT_WANTED}"]),
    "a port of zero": ('port: ":0"', [f"1:7: port: {PORT_WANTED}"]),
    "a port that is none": ("port: http", [f"1:7: port: {PORT_WANTED}"]),
    "a host with a port": (
        "host: a:1",
        ["1:7: host: expected an address of this machine, without a port; write host: 127.0.0.1"],
    ),
    "workers below zero": (
        "workers: -1",
        ["1:10: workers: expected a whole number from 0 (one per core) to 1024; write workers: 4"],
    ),
    "workers in words": (
        "workers: four",
        ["1:10: workers: expected a whole number from 0 (one per core) to 1024; write workers: 4"],
    ),
    "an unknown log level": (
        "log_level: loud",
        ["1:12: log_level: expected one of debug, info, warning, error; write log_level: debug"],
    ),
    "an unknown log format": (
        "log_format: xml",
        ["1:13: log_format: expected one of json, text; write log_format: json"],
    ),
    "a bool that is none": (
        "https_info: {enable: maybe}",
        ["1:22: https_info.enable: expected true or false; write enable: true"],
    ),
    "an address of another kind": (
        "openai: {api_url: ftp://a}",
        [f"1:19: openai.api_url: {HTTP_WANTED}"],
    ),
    "a websocket address of another kind": (
        "bing: {ws_url: https://a}",
        [
            "1:16: bing.ws_url: expected a ws:// or wss:// address: host, port and path if need "
            "be, no query, no password; write ws_url: wss://host.example"
        ],
    ),
    "a proxy of another kind": (
        "proxy_url: socks4://a:1",
        [f"1:12: proxy_url: {PROXY_WANTED}"],
    ),
    "a timeout of zero": (
        "timeouts: {idle: 0}",
        [f"1:18: timeouts.idle: {SECONDS_WANTED}; write idle: 30"],
    ),
    "a timeout below zero": (
        "timeouts: {total: -1}",
        [f"1:19: timeouts.total: {SECONDS_WANTED}; write total: 30"],
    ),
    "a timeout without end": (
        "timeouts: {total: .inf, idle: inf, connect: nan}",
        [
            f"1:19: timeouts.total: {SECONDS_WANTED}; write total: 30",
            f"1:31: timeouts.idle: {SECONDS_WANTED}; write idle: 30",
            f"1:45: timeouts.connect: {SECONDS_WANTED}; write connect: 30",
        ],
    ),
    "a limit of zero": (
        "limits: {request_bytes: 0}",
        [
            "1:25: limits.request_bytes: expected a whole number of bytes above 0"
            "; write request_bytes: 33554432"
        ],
    ),
    "a variable that is not set": (
        ENTRY + "    - id: a\n      val: ${NO_SUCH}",
        [
            "4:12: openai.api_keys[0].val: the environment has no NO_SUCH; set it, or write "
            "${NO_SUCH:-}"
        ],
    ),
    "half a variable": (
        "host: ${NO",
        ["1:7: host: ${ begins a variable; write ${NAME}, or $${ for the characters themselves"],
    ),
    "https without files": (
        "https_info: {enable: true}",
        [
            "1:1: https_info.pem_file: needed while https_info.enable is true; "
            "write a PEM file's path",
            "1:1: https_info.key_file: needed while https_info.enable is true; "
            "write a PEM file's path",
        ],
    ),
    "https with a folder and without a file": (
        "https_info: {enable: true, pem_file: /, key_file: nowhere.key}",
        [
            "1:38: https_info.pem_file: is a directory; write the path of a PEM file",
            "1:51: https_info.key_file: does not exist; write the path of a PEM file",
        ],
    ),
    "https with files that are something else": (
        "https_info: {enable: true, pem_file: c.yaml, key_file: c.yaml}",
        [
            "1:38: https_info.pem_file: holds no CERTIFICATE in PEM form; "
            "write the path of one that does",
            "1:56: https_info.key_file: holds no PRIVATE KEY in PEM form; "
            "write the path of one that does",
        ],
    ),
    "not UTF-8": (
        b"port: 1\nhost: \xe4\xff",
        ["2:7: file: is not UTF-8 here; save it as UTF-8"],
    ),
    "UTF-16": (
        "port: 1".encode("utf-16"),
        ["1:1: file: is not UTF-8 here; save it as UTF-8"],
    ),
    "a control character": (
        "port: 1\nhost: a\x01",
        ["2:8: file: holds a control character; remove it"],
    ),
    "a tab": (
        "openai:\n\tapi_keys:",
        ["2:1: yaml: a tab stands here; indent with spaces"],
    ),
    "a sign that needs quotes": (
        "host: @home",
        ["1:7: yaml: @ cannot begin a value; put the value into quotes"],
    ),
    "a colon too many": (
        "host: a: b",
        [
            "1:8: yaml: mapping values are not allowed in this context; "
            "check quotes and indentation here and in the line above"
        ],
    ),
    "a list without its end": (
        "a: [1, 2\nb: c",
        [
            "2:2: yaml: did not find expected ',' or ']'; "
            "check quotes and indentation here and in the line above"
        ],
    ),
    "an alias of nothing": (
        "host: *hunter2",
        ["1:7: yaml: * begins an alias that no anchor defines; put text into quotes"],
    ),
    "two documents": (
        "port: 1\n---\nport: 2",
        ["2:1: yaml: a second document begins; keep one and remove the --- line"],
    ),
    "nesting without end": (
        "[" * 200_000,
        ["1:50: file: is nested deeper than 50 levels"],
    ),
    "values without end": (
        "a: [" + "x," * 200_000 + "]",
        ["1:199999: file: holds more than 100000 values; is it the right file?"],
    ),
    "a huge file": (
        "#" * (1 << 20) + "\n",
        ["1:1: file: is larger than 1048576 bytes; is it the right file?"],
    ),
    "mistakes of several kinds at once": (
        "port: x\nopenai: {api_keys: [{id: a}]}\nclaude: []\n",
        [
            f"1:7: port: {PORT_WANTED}",
            "2:21: openai.api_keys[0].val: missing; write val: ${NAME_OF_A_VARIABLE}",
            "3:9: claude: expected a mapping, got a list; "
            "write api_url: ..., web_url: ..., proxy_url: ...",
        ],
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_every_mistake_is_told_at_its_line_with_what_to_write(what):
    text, expected = MISTAKES[what]
    began = time.monotonic()
    assert problems_of(text) == [f"c.yaml:{line}" for line in expected]
    assert time.monotonic() - began < 20  # unfolded, each of these takes hours


def bomb(depth: int, width: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    for level in range(1, depth):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb(30, 10),
        f"arkose:\n  {bomb(30, 10)}".replace("\n", "\n  "),
        "openai: &a {api_keys: [*a, *a]}",
        "openai: {api_keys: &a [*a]}",
        # One entry with many mistakes, used many times.
        "x: &e {" + ", ".join(f"k{i}: 1" for i in range(9000)) + "}\n"
        "openai: {api_keys: [" + "*e, " * 80_000 + "]}",
        # One long secret, used many times.
        "x: &e {id: a, val: " + "s" * 500_000 + "}\nopenai: {api_keys: [" + "*e, " * 90_000 + "]}",
        # One good entry, many ids the same.
        "x: &e {id: a, val: b}\nopenai: {api_keys: [" + "*e, " * 90_000 + "]}",
        "openai: {api_keys: [" + "{id: a}, " * 30_000 + "]}",
        "\n".join(f"key_{i}: 1" for i in range(40_000)),
    ],
    ids=["bomb", "bomb-in-any", "loop", "list-loop", "aliased-mistakes", "aliased-secret",
         "aliased-ids", "mistakes", "unknown-keys"],
)  # fmt: skip
def test_alias_bombs_and_thousands_of_mistakes_end_soon_and_in_bounded_space(text):
    began = time.monotonic()
    problems = problems_of(text)
    assert time.monotonic() - began < 20  # unfolded, each of these takes hours
    assert 1 <= len(problems) <= 1001
    assert sum(map(len, problems)) < 1_000_000


def test_variables_that_unfold_without_end_are_stopped():
    problems = problems_of("host: " + "${BIG}" * 1000, {"BIG": "x" * 100_000})
    assert problems == [
        "c.yaml:1:7: file: aliases or variables make too much of it; write the entries out"
    ]


def test_no_message_holds_a_value_of_the_file():
    secret = "hunter2secret"
    texts = [
        f"port: {secret}",
        f"workers: {secret}",
        f"host: '{secret}:1'",
        f"openai: {secret}",
        f"openai: {{api_keys: {secret}}}",
        f"openai: {{api_keys: [{secret}, {{id: a, val: [{secret}]}}, {{val: {secret}}}]}}",
        f'openai: {{api_keys: [{{id: a, val: "{secret}\\n"}}]}}',
        f"openai: {{api_keys: [{{id: a, val: *{secret}}}]}}",
        f"openai: {{api_keys: [{{id: a, val: !{secret}!x y}}]}}",
        f"openai: {{api_keys: [{{id: a, val: '{secret}]}}]",
        f"openai: {{api_keys: [{{id: a, val: @{secret}}}]}}",
        f"openai: {{api_url: 'http://me:{secret}@host'}}",
        f"proxy_url: socks4://me:{secret}@host",
        f"log_level: {secret}",
        f"timeouts: {{idle: {secret}}}",
        f"https_info: {{enable: {secret}}}",
        f"openai:\n  api_keys:\n  - id: a\n    val: {secret}\n   {secret}: x\n",
    ]
    for text in texts:
        assert secret not in "\n".join(problems_of(text)), text
    assert secret not in "\n".join(problems_of("workers: ${X}", {"X": secret}))
    assert secret not in "\n".join(problems_of("", {"ANY_PROXY_PORT": secret}))


def test_variables_are_replaced_after_parsing_so_values_cannot_be_yaml():
    environ = {"KEY": "a, b: [c] # ${OTHER} 'x'", "ID": "work", "EMPTY": ""}
    text = (
        ENTRY + "    - {id: '${ID}-1', val: '${KEY}'}\n"
        "    - {id: two, val: '${NONE:-x}${EMPTY:-y}${ID:-z}$$${ID}$${ID}'}\n"
        "    - {id: three, val: '$ID$'}\n"
    )
    keys = load_text(text, environ).config.openai.api_keys
    assert [(key.id, key.val) for key in keys] == [
        ("work-1", environ["KEY"]),
        ("two", "xywork$${ID}${ID}"),
        ("three", "$ID$"),
    ]


def test_an_entry_whose_variable_may_be_missing_is_left_out_silently_others_with_a_warning():
    text = (
        ENTRY + "    - {id: a, val: '${NONE:-}'}\n    - {id: b, val: '${EMPTY}'}\n"
        "    - {id: c, val: }\n    - {id: d, val: d}\n"
    )
    loaded = load_text(text, {"EMPTY": ""})
    assert [key.id for key in loaded.config.openai.api_keys] == ["d"]
    assert loaded.warnings == [
        "c.yaml:4:20: openai.api_keys[1].val: empty, so the entry is left out",
        "c.yaml:5:20: openai.api_keys[2].val: empty, so the entry is left out",
    ]


def test_sample_values_left_in_place_are_warned_of():
    for val in (
        "sk-xxxx",
        "sk-...",
        "<your key>",
        "your-api-key",
        "test",
        "sk-ant-xxx",
        "change-me",
    ):
        (warning,) = load_text(f"{ENTRY}    - {{id: a, val: '{val}'}}").warnings
        assert warning == (
            "c.yaml:3:20: openai.api_keys[0].val: looks like a sample value; write your own"
        )
    for val in ("sk-proj-xxa", "sk-1", "testing-1"):
        assert load_text(f"{ENTRY}    - {{id: a, val: '{val}'}}").warnings == []


def test_a_file_that_others_can_read_is_warned_of_when_secrets_are_in_it():
    Path("open.yaml").write_text("openai: {api_keys: [{id: a, val: sk-1}]}")
    Path("open.yaml").chmod(0o644)
    (warning,) = load("open.yaml", {}).warnings
    assert warning == (
        "open.yaml:1:1: file: others on this machine can read the secrets in it; chown it to the"
        " user that the gateway runs as (in the image: uid 10001), then chmod 600 it"
    )
    Path("open.yaml").write_text("openai: {api_keys: [{id: a, val: '${KEY}'}]}")
    assert load("open.yaml", {"KEY": "sk-1"}).warnings == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (ENTRY + "    - {id: a, val: ${KEY}}", "3:21"),
        (ENTRY + "    - {id: a, val: ${KEY:-}, rpm: 3}", "3:21"),
        (ENTRY + "    - {id: a,\n       val: pre-${KEY}}", "4:18"),
        ("coze: {discord: {auth: [${KEY}]}}", "1:26"),
    ],
)
def test_a_variable_in_braces_without_quotes_is_told_to_be_quoted(text, place):
    wanted = 'a variable between { } or [ ] needs quotes; write "${NAME}"'
    assert problems_of(text, {"KEY": "sk-1"}) == [f"c.yaml:{place}: yaml: {wanted}"]


def test_one_secret_under_two_names_is_remarked():
    keys = "    - {id: a, val: sk-1}\n    - {id: b, val: sk-2}\n    - {id: c, val: '${KEY}'}\n"
    sessions = "  web_sessions:\n    - {id: a, val: sk-1}\n"
    assert load_text(ENTRY + keys + sessions, {"KEY": "sk-1"}).warnings == [
        "c.yaml:5:20: openai.api_keys[2].val: the same secret as in openai.api_keys[0].val, so one"
        " account under two names; remove one"
    ]
    bots = "coze: {api_chat: {bots: [{bot_id: 1, user: a, access_token: t-1},"
    bots += " {bot_id: 2, user: a, access_token: t-1}]}}"
    assert load_text(bots).warnings == []


def test_variables_that_are_set_to_nothing_are_named():
    sample = (ROOT / "etc/c.yaml").read_text()
    environ = {"OPENAI_API_KEY": "", "GEMINI_API_KEY": "", "ANY_PROXY_TOKEN": ""}
    keys, tokens = load_text(sample, environ).warnings
    assert "keys: there are none" in keys
    assert "OPENAI_API_KEY, GEMINI_API_KEY are set to nothing; write some" in keys
    assert "access.tokens: ANY_PROXY_TOKEN is set to nothing, so only programs on this" in tokens
    given = {
        "OPENAI_API_KEY": "sk-1",
        "GEMINI_API_KEY": "",
        "ANY_PROXY_TOKEN": "a-token-of-one-caller",
    }
    assert load_text(sample, given).warnings == []
