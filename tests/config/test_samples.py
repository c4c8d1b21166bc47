"""The two files that come with the project: etc/c.yaml and etc/demo.yaml."""

from app.config.families import KEY_VARIABLES, pool_sizes
from app.config.fields import extra, leaves
from app.config.load import (
    listen_address,
    load,
    secrets,
)
from app.config.schema import Config, KeyEntry
from app.config.yaml_tree import Node, scan
from tests.config.files import ROOT, paths_of_structs


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
        **{name: f"value of {name}" for name in KEY_VARIABLES},
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
        for text, hint in leaves(loaded.config, Config)
        if extra(hint).get("check") in ("http", "websocket") and text
    ]
    assert len(addresses) == 11 + len(loaded.config.upstreams) == 16
    assert all("://127.0.0.1:8998/" in address for address in addresses), addresses
    assert all(secret.startswith("demo-") for secret in secrets(loaded.config))
    without_keys = [pool for pool, size in pool_sizes(loaded.config).items() if not size]
    assert without_keys == ["upstreams.ollama"]  # a local server wants none
