import os
import socket
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.config import load as config_room
from app.config.fields import convert
from app.config.load import (
    ENVIRONMENT_KEYS,
    ConfigError,
    Loaded,
    check_environment,
    listen_address,
    load,
    report,
    secrets,
)
from app.config.schema import Config, KeyEntry, Section
from app.config.yaml_tree import Node, scan

ROOT = Path(__file__).parents[2]

# The Go project's file with its own keys: placeholders, unquoted ids and all.
GO_SAMPLE = """\
port: ":8999"
https_info:
  enable: false
  pem_file: /data/ssl/my.pem
  key_file: /data/ssl/my.key
hars_path: /data/hars
proxy_url:
openai:
  auth_proxy_url:
  cookie_path: /data/cookies
  chat_web_url: https://chat.openai.com
  image_path: /data/images
  api_keys:
    - id: 10001
      val: sk-one
    - id: 0123
      val: 12345678901234567890
  web_sessions:
    - id: 1_000
      val: 12:30
    - id: yes
      val: on
google_gemini:
  proxy_url:
  model: gemini-pro
  api_keys:
    - id: 20001
      val: AIzaOne
      version: v1beta
    - id: 20002
      val: AIzaTwo
      version:
arkose:
  game_core_url: https://example.org
  pics_save_path: [1, {a: b}]
bing:
  proxy_url: http://127.0.0.1:1081
coze:
  proxy_url:
  discord:
    enable: no
    guild_id: 1205765912345678901
    channel_id: 1205765912345678902
    chat_bot_token: bot-token
    coze_bot: [1205765912345678903]
    auth:
      - user-token
      -
    request_out_time: 0
    request_stream_out_time: 120
  api_chat:
    access_token: pat_global
    bots:
      - bot_id: 7340000000000000001
        user: 1000000001
        access_token:
      - bot_id:
        user:
        access_token:
claude:
  proxy_url: socks5://me:pa%40ss@127.0.0.1:1080
  api_version: 2023-06-01
  web_sessions:
    - id: 30001
      val: sk-ant-sid01
      organization_id: 1a2b-3c
    - id:
      val:
      organization_id:
  api_keys:
    -
"""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load_text(text: str | bytes, environ=None, overrides=None, **more) -> Loaded:
    data = text.encode() if isinstance(text, str) else text
    Path("c.yaml").write_bytes(data)
    Path("c.yaml").chmod(0o600)
    return load("c.yaml", environ or {}, overrides, **more)


def problems_of(text: str | bytes, environ=None, overrides=None, **more) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, environ, overrides, **more)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


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


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "{}"])
def test_an_empty_file_means_the_defaults_and_is_told(text):
    loaded = load_text(text, {"ANY_PROXY_PORT": "9000"})
    assert loaded.config == Config(port="9000")
    empty, keys = loaded.warnings
    assert empty.startswith("c.yaml:1:1: file: holds no settings")
    assert keys.startswith("c.yaml:1:1: keys: there are none")
    assert "c.yaml: no settings" in report(loaded) and "no mistakes" not in report(loaded)


ENTRY = "openai:\n  api_keys:\n"
PORT_WANTED = (
    'expected a port from 1 to 65535, with or without an address before it; write port: ":8999"'
)
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
        ["1:7: host: ${ begins a variable; write ${NAME}, or $${ for the signs themselves"],
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


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "none.yaml",
            "none.yaml:1:1: file: does not exist; write the path of a YAML file after -c",
        ),
        ("", ":1:1: file: does not exist; write the path of a YAML file after -c"),
        ("c.yaml/x", "c.yaml/x:1:1: file: does not exist; write the path of a YAML file after -c"),
        ("/", "/:1:1: file: is a directory; write the path of a YAML file after -c"),
        (
            "/dev/zero",
            "/dev/zero:1:1: file: is not a regular file; write the path of a YAML file after -c",
        ),
        # Unreadable for root too.
        (
            "/proc/self/mem",
            "/proc/self/mem:1:1: file: cannot be read (Input/output error); write another path",
        ),
        (
            "a\0b",
            "a\0b:1:1: file: cannot be read (not a path); write another path",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_told(path, expected):
    Path("c.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.problems == [expected]


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


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ('":8999"', ("0.0.0.0", 8999)),
        ("8999", ("0.0.0.0", 8999)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost:80", ("localhost", 80)),
        ('"[::1]:8999"', ("::1", 8999)),
        ('":1"\nhost: 127.0.0.2', ("127.0.0.2", 1)),
        ('127.0.0.1:1\nhost: "::1"', ("::1", 1)),
        ('127.0.0.1:1\nhost: "[::1]"', ("::1", 1)),
    ],
)
def test_port_may_be_written_in_four_ways_and_host_wins(written, address):
    assert listen_address(load_text(f"port: {written}").config) == address


@pytest.mark.parametrize(
    ("good", "texts"),
    [
        (True, ["https://a.b", "http://a.b/", "http://127.0.0.1:8998/openai", "https://[::1]:1/x/"]),
        (
            False,
            ["a.b", "https://", "https:///x", "https://a.b?x=1", "https://a.b#x", "https://a.b?",
             "https://u:p@a.b", "https://a b", "https://a.b:99999", "https://a.b:0", "https://a:",
             "https://a.b:x", "ws://a", "https://[::1", "https://a.b\\c", "https://ä.de",
             "https://a\n.b", "https://-a"],
        ),
    ],
)  # fmt: skip
def test_an_upstream_address_is_an_origin_with_or_without_a_path(good, texts):
    hint = config_room._hints(type(Config().openai))["api_url"]
    assert {text: convert(text, hint) == (text, "") for text in texts} == dict.fromkeys(texts, good)


@pytest.mark.parametrize(
    ("good", "texts"),
    [
        (True, ["http://a", "https://a:1/", "socks5://u:p@a:1", "http://u:p%40@[::1]:1"]),
        (True, ["socks5h://a", "socks5h://u:p@a:1/", "SOCKS5H://[::1]:1"]),
        (False, ["a:1", "socks4://a:1", "http://a/path", "http://a?x", "http://u:p@", "ftp://a"]),
    ],
)
def test_a_proxy_may_have_a_password_but_no_path(good, texts):
    hint = config_room._hints(Config)["proxy_url"]
    assert {text: convert(text, hint) == (text, "") for text in texts} == dict.fromkeys(texts, good)


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


def test_without_a_file_the_keys_of_the_environment_make_a_config():
    environ = {name: f"value of {name}" for name in ENVIRONMENT_KEYS}
    loaded = load(None, environ)
    config = loaded.config
    assert [(key.id, key.val) for key in config.openai.api_keys] == [
        ("env", "value of OPENAI_API_KEY")
    ]
    assert [key.val for key in config.claude.api_keys] == ["value of ANTHROPIC_API_KEY"]
    assert [key.val for key in config.google_gemini.api_keys] == ["value of GEMINI_API_KEY"]
    assert loaded.warnings == []
    only_google = load(None, {"GOOGLE_API_KEY": "g"}).config
    assert [(key.id, key.val) for key in only_google.google_gemini.api_keys] == [("env", "g")]


def test_without_a_file_and_without_keys_both_ways_are_told():
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    assert caught.value.problems == [
        "etc/c.yaml:1:1: file: does not exist; write the path of a YAML file after -c, or set "
        "OPENAI_API_KEY or ANTHROPIC_API_KEY or GEMINI_API_KEY or GOOGLE_API_KEY"
    ]


def test_a_missing_file_that_was_named_is_a_mistake_even_with_keys_in_the_environment():
    for path, more in (("c.yaml", {}), (None, {"ANY_PROXY_CONFIG": "c.yaml"})):
        with pytest.raises(ConfigError, match=r"c\.yaml:1:1: file: does not exist"):
            load(path, {"OPENAI_API_KEY": "sk-1", **more})


def test_beside_a_file_the_environments_keys_are_not_mixed_in_but_hinted_at():
    loaded = load_text(
        "openai: {api_keys: [{id: a, val: b}]}", dict.fromkeys(ENVIRONMENT_KEYS, "x")
    )
    assert loaded.config.claude.api_keys == []
    assert [warning.partition(";")[0] for warning in loaded.warnings] == [
        "c.yaml:1:1: claude.api_keys: ANTHROPIC_API_KEY is set but not used",
        "c.yaml:1:1: google_gemini.api_keys: GEMINI_API_KEY is set but not used",
        "c.yaml:1:1: google_gemini.api_keys: GOOGLE_API_KEY is set but not used",
    ]


def test_flag_over_environment_over_file_over_default():
    file = "port: 1\nlog_level: error\nworkers: 1\n"
    environ = {"ANY_PROXY_PORT": "2", "ANY_PROXY_WORKERS": "2", "ANY_PROXY_LOG_FORMAT": ""}
    config = load_text(file, environ, {"port": 3, "host": None, "workers": None}).config
    assert (config.port, config.workers, config.log_level, config.log_format, config.host) == (
        ("3", 2, "error", "json", "")
    )


def test_a_host_in_a_higher_layers_port_wins_over_a_lower_layers_host():
    loaded = load_text("host: 127.0.0.1", {"ANY_PROXY_PORT": "127.0.0.2:7"})
    assert listen_address(loaded.config) == ("127.0.0.2", 7)
    loaded = load_text("host: 127.0.0.1", {"ANY_PROXY_PORT": "7"})
    assert listen_address(loaded.config) == ("127.0.0.1", 7)
    loaded = load_text("port: 127.0.0.1:7", {"ANY_PROXY_HOST": "127.0.0.3"})
    assert listen_address(loaded.config) == ("127.0.0.3", 7)


def test_mistakes_of_flags_and_environment_name_the_flag_and_the_variable():
    problems = problems_of("port: x", {"ANY_PROXY_LOG_LEVEL": "loud"}, {"workers": "-1"})
    assert problems == [
        f"c.yaml:1:7: port: {PORT_WANTED}",
        "ANY_PROXY_LOG_LEVEL: log_level: expected one of debug, info, warning, error; "
        "write ANY_PROXY_LOG_LEVEL=debug",
        "--workers: workers: expected a whole number from 0 (one per core) to 1024; "
        "write --workers=4",
    ]


def test_a_taken_port_is_told_at_its_line_together_with_the_other_mistakes():
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = f"wrokers: 1\nport: 127.0.0.1:{port}\n"
        line = f"port: {port} is taken by another program; stop it or write another port"
        assert problems_of(text, to_start=True) == [
            "c.yaml:1:1: wrokers: unknown key; did you mean workers?",
            f"c.yaml:2:7: {line}",
        ]
        flags = {"port": f"127.0.0.1:{port}"}
        assert problems_of("", {}, flags, to_start=True) == [f"--port: {line}"]
        reloaded = load_text("", {}, flags)  # a reload does not ask
        assert check_environment(reloaded) == [f"--port: {line}"]
    assert check_environment(reloaded) == []


def test_an_address_of_another_machine_is_told_as_the_hosts_mistake():
    (problem,) = problems_of("host: 192.0.2.1", to_start=True)
    assert problem.startswith("c.yaml:1:7: host: cannot listen there (Cannot assign requested")
    (problem,) = problems_of("port: 192.0.2.1:9", to_start=True)
    assert problem.startswith("c.yaml:1:7: port: cannot listen there (Cannot assign requested")


def pem(what: str, body: str) -> str:
    return f"-----BEGIN {what}-----\n{body}\n-----END {what}-----\n"


CERTIFICATE = pem(
    "CERTIFICATE",
    """\
MIIBhTCCASygAwIBAgIUblS/Owm/3ikiiZF7odasO4L5MRYwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjcwMTU0NTdaGA8yMTI2MTEwMzAxNTQ1
N1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJCZ
3/ockXmn3X0G3A/Clasn2a0FF7Ue36B+nsTLgWA2KVVLaHgEVBknrEZMVxqfCWsP
Y/If/RX4nKfOZK/5MRWjZDBiMB0GA1UdDgQWBBSDSwTc3Wv7+Xt6WINUa/RbYTQ6
OzAfBgNVHSMEGDAWgBSDSwTc3Wv7+Xt6WINUa/RbYTQ6OzAPBgNVHRMBAf8EBTAD
AQH/MA8GA1UdEQQIMAaCBHRlc3QwCgYIKoZIzj0EAwIDRwAwRAIgByJFohwH9W8y
VDqSWNirtwHkUmClMF3ry6Zo/hikkwoCIAfB+0wryg7rGRxgbYJch7R/XyHXBJWX
3guuqY7iPBM2""",
)
NAMELESS_CERTIFICATE = pem(
    "CERTIFICATE",
    """\
MIIBdjCCARugAwIBAgIUARLdbTulyE/CLkUkQCA3SG+5TZkwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjMwMjI3MzRaGA8yMTI2MTAzMDAyMjcz
NFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJCZ
3/ockXmn3X0G3A/Clasn2a0FF7Ue36B+nsTLgWA2KVVLaHgEVBknrEZMVxqfCWsP
Y/If/RX4nKfOZK/5MRWjUzBRMB0GA1UdDgQWBBSDSwTc3Wv7+Xt6WINUa/RbYTQ6
OzAfBgNVHSMEGDAWgBSDSwTc3Wv7+Xt6WINUa/RbYTQ6OzAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDpTz4AoBIjsibFUod6sNw8pUX/fdedHSBV
jSUMGCRjbwIhAILzoAypzT6LTKCQB5Ul70Jnk0ZmiBVvc9jDKGi60bkG""",
)
ITS_KEY = pem(
    "PRIVATE KEY",
    """\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgrNYKxN5fGs3CD7ot
wFOJSvLKPaoe0D1XpiTpecleFvihRANCAASQmd/6HJF5p919BtwPwpWrJ9mtBRe1
Ht+gfp7Ey4FgNilVS2h4BFQZJ6xGTFcanwlrD2PyH/0V+JynzmSv+TEV""",
)
ANOTHER_KEY = pem(
    "PRIVATE KEY",
    """\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgODyE7DA2Xl2uGMBo
NuEGHiy5MBIkV6XvIOCekcfYp6+hRANCAATeTZCANb+VgbI3w6Mu/hbnL/4ZQUgy
2B3fV3R7ouLZT+v+3SVAxy0UEYD2s7GcpG1lQvj6JHWBAzBPXk4LyBRR""",
)
HTTPS = "https_info:\n  enable: true\n  pem_file: c.pem\n  key_file: k.pem\n"


@pytest.mark.parametrize(
    ("certificate", "key", "expected"),
    [
        (CERTIFICATE, ITS_KEY, None),
        (NAMELESS_CERTIFICATE, ITS_KEY, "3:13: https_info.pem_file: names no host"),
        (
            CERTIFICATE,
            ANOTHER_KEY,
            "3:13: https_info.pem_file: the certificate and key_file cannot",
        ),
        (pem("CERTIFICATE", "AAAA"), ITS_KEY, "3:13: https_info.pem_file: the certificate and key"),
        (CERTIFICATE, pem("ENCRYPTED PRIVATE KEY", "AAAA"), "4:13: https_info.key_file: is encry"),
        (CERTIFICATE, CERTIFICATE, "4:13: https_info.key_file: holds no PRIVATE KEY in PEM form"),
    ],
)
def test_the_certificate_and_its_key_are_tried(certificate, key, expected):
    Path("c.pem").write_text(certificate)
    Path("k.pem").write_text(key)
    if expected:
        (problem,) = problems_of(HTTPS)
        assert problem.startswith(f"c.yaml:{expected}")
    else:
        assert report(load_text(HTTPS)).splitlines()[-2] == "listens on https://0.0.0.0:8999"


def test_secrets_are_all_keys_sessions_tokens_and_proxy_passwords():
    assert secrets(load_text(GO_SAMPLE).config) == {
        "sk-one", "12345678901234567890", "12:30", "on", "AIzaOne", "AIzaTwo", "bot-token",
        "user-token", "pat_global", "sk-ant-sid01", "pa%40ss", "pa@ss",
    }  # fmt: skip


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


@contextmanager
def as_nobody():
    """A user without rights, also where the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield os.geteuid()
    finally:
        os.seteuid(before)


@pytest.fixture
def public(monkeypatch):
    """A folder that everybody may enter; pytest's own is for its user alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.chdir(folder)
        yield Path(folder)


def test_a_file_of_somebody_else_says_whose_it_must_be(public):
    Path("c.yaml").write_text("port: 8999")
    Path("c.yaml").chmod(0)
    with as_nobody() as uid, pytest.raises(ConfigError) as caught:
        load("c.yaml", {})
    owner = os.stat("c.yaml").st_uid
    cure = f"it belongs to uid {owner}: chown it to uid {uid}, and chmod 600 it"
    told = f"c.yaml:1:1: file: cannot be read by this user (uid {uid}); "
    assert str(caught.value) == told + ("chmod u+r it" if owner == uid else cure)


@pytest.mark.parametrize("mode", [0o555, 0o444])
def test_a_data_folder_that_cannot_be_written_is_told_with_the_cure(public, mode):
    text = "openai: {api_keys: [{id: a, val: '${KEY}'}], web_sessions: [{id: a, val: '${WEB}'}]}"
    environ = {"KEY": "sk-1", "WEB": "token"}
    assert load_text(text, environ).warnings == []
    Path("c.yaml").chmod(0o644)
    Path("data").mkdir(mode=mode)
    with as_nobody() as uid:
        (warning,) = load("c.yaml", environ).warnings  # three paths, one folder
    assert warning.startswith(
        f"c.yaml:1:1: state_path: this user (uid {uid}) cannot write in {public / 'data'},"
        " so it is lost at the next start; "
    )
    cure = f"chown it to uid {uid}" if os.geteuid() == 0 else "mount it writable, or chmod u+wx it"
    assert warning.endswith(f"; {cure}, or write another path")


def test_the_report_lists_problems_or_what_the_gateway_will_do():
    with pytest.raises(ConfigError) as caught:
        load_text("prot: 1")
    assert report(caught.value) == (
        "c.yaml:1:1: prot: unknown key; did you mean port?\n1 problem found"
    )
    loaded = load_text(ENTRY + "    - {id: a, val: b}\narkose: {a: b}\nhost: '::1'")
    assert report(loaded).splitlines() == [
        "warning: c.yaml:4:9: arkose: accepted, but not used: no challenge is solved here",
        "c.yaml: no mistakes found",
        "listens on http://[::1]:8999",
        "keys: 1 in openai.api_keys",
    ]


# The two files that come with the project.


def paths_of_structs(kind: type[Section] = Config, path: str = "") -> dict[str, object]:
    """Each key's path with its default; list items are written as []."""
    found: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        at = f"{path}.{field.name}".lstrip(".")
        item = getattr(field.type, "__args__", [None])[0]
        if isinstance(field.type, type) and issubclass(field.type, Section):
            found |= {at: None, **paths_of_structs(field.type, at)}
        elif isinstance(item, type) and issubclass(item, Section):
            found |= {at: None, **paths_of_structs(item, f"{at}[]")}
        else:
            found[at] = field.default
    return found


def paths_of_nodes(node: Node, path: str = "") -> set[str]:
    found: set[str] = set()
    for key, child in zip(node.children[::2], node.children[1::2], strict=True):
        at = f"{path}.{key.text}".lstrip(".")
        found.add(at)
        for inner, its_path in (
            [(child, at)]
            if child.kind != "list"
            else [(item, f"{at}[]") for item in child.children]
        ):
            if inner.kind == "mapping":
                found |= paths_of_nodes(inner, its_path)
    return found


def test_the_sample_file_shows_every_key_and_no_other():
    root = scan((ROOT / "etc/c.yaml").read_bytes())
    assert root and paths_of_nodes(root) == set(paths_of_structs())


def test_the_sample_file_says_the_defaults_and_starts_without_any_key():
    loaded = load(str(ROOT / "etc/c.yaml"), {})
    assert loaded.config == Config()
    (warning,) = loaded.warnings
    assert ": keys: there are none" in warning


def test_the_sample_file_takes_its_keys_from_the_environment():
    environ = {
        **{name: f"value of {name}" for name in ENVIRONMENT_KEYS},
        "CHATGPT_ACCESS_TOKEN": "ct", "CLAUDE_SESSION_KEY": "cs", "COZE_ACCESS_TOKEN": "ca",
        "COZE_BOT_ID": "1", "DISCORD_BOT_TOKEN": "db", "DISCORD_USER_TOKEN": "du",
    }  # fmt: skip
    loaded = load(str(ROOT / "etc/c.yaml"), environ)
    assert loaded.warnings == []
    assert loaded.config.openai.api_keys == [KeyEntry(id="env", val="value of OPENAI_API_KEY")]
    assert [key.id for key in loaded.config.google_gemini.api_keys] == ["env", "env-google"]
    assert len(secrets(loaded.config)) == 9
    assert [bot.user for bot in loaded.config.coze.api_chat.bots] == ["gateway"]


def test_the_sample_file_fits_a_terminal():
    for line in (ROOT / "etc/c.yaml").read_text().splitlines():
        assert len(line) <= 100, line


def test_the_demo_file_asks_nobody_but_the_simulator():
    loaded = load(str(ROOT / "etc/demo.yaml"), {})
    assert loaded.warnings == []
    assert listen_address(loaded.config) == ("127.0.0.1", 8999)
    addresses = [
        text
        for text, hint in config_room._leaves(loaded.config, Config)
        if config_room.extra(hint).get("check") in ("http", "websocket")
    ]
    assert len(addresses) == 11
    assert all("://127.0.0.1:8998/" in address for address in addresses), addresses
    assert all(secret.startswith("demo-") for secret in secrets(loaded.config))
    assert all(config_room._pool_sizes(loaded.config).values())


# Whatever the file holds: a config, or a ConfigError with places.

names = sorted({path.rpartition(".")[2].rstrip("[]") for path in paths_of_structs()})
scalars = st.one_of(
    st.sampled_from(
        ["", "~", "a", "1", "-1", "true", "${A}", "${A:-}", "${", "$${", ":8999", '"', "'"]
    ),
    st.sampled_from(
        ["http://a", "*x", "&x", "!!int", "|", ">", "- ", "? ", "<<", "@", "\t", "${A:-b}"]
    ),
    st.text(max_size=8),
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(names), scalars), inner, max_size=5),
    ),
    max_leaves=25,
)


def flow(tree: object) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {flow(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(flow, tree)) + "]"
    return str(tree)


def load_any(data: bytes) -> None:
    Path("any.yaml").write_bytes(data)
    try:
        loaded = load("any.yaml", {"A": "x"})
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.startswith("any.yaml:") and "\n" not in problem, problem
        assert report(error)
    else:
        assert report(loaded)
        assert isinstance(secrets(loaded.config), frozenset)
        for value, hint in config_room._leaves(loaded.config, Config):
            assert value in ("", None) or convert(str(value), hint) == (value, "")


calm = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@calm
@given(trees)
@example({"openai": {"api_keys": [{"id": "a", "val": "${A}"}]}, "port": "1"})
def test_random_trees_load_or_are_refused_with_places(tree):
    load_any(flow(tree).encode("utf-8", "surrogatepass"))


@calm
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(str.encode),
        st.text("[]{}:,-&*a \n\t'\"|>!%?#", max_size=60).map(str.encode),
    )
)
def test_random_bytes_load_or_are_refused_with_places(data):
    load_any(data)
