"""Config files for the tests of this folder."""

import os
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from app.config.field_types import Section
from app.config.fields import bare
from app.config.load import (
    ConfigError,
    Loaded,
    load,
)
from app.config.schema import Config

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


ENTRY = "openai:\n  api_keys:\n"
PORT_WANTED = (
    'expected a port from 1 to 65535, with or without an address before it; write port: ":8999"'
)


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


def paths_of_structs(kind: type[Section] = Config, path: str = "") -> dict[str, object]:
    """Each key's path with its default; list items are written as []."""
    found: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        at = f"{path}.{field.name}".lstrip(".")
        item = getattr(bare(field.type), "__args__", [None])[0]
        if isinstance(field.type, type) and issubclass(field.type, Section):
            found |= {at: None, **paths_of_structs(field.type, at)}
        elif isinstance(item, type) and issubclass(item, Section):
            found |= {at: None, **paths_of_structs(item, f"{at}[]")}
        else:
            found[at] = field.default
    return found
