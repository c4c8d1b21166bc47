"""The layers of the config, what is known of it, and whatever a file may hold."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.config.fields import convert, leaves
from app.config.load import (
    ConfigError,
    listen_address,
    load,
    report,
    secrets,
)
from app.config.schema import Config
from tests.config.files import (
    ENTRY,
    GO_SAMPLE,
    PORT_WANTED,
    load_text,
    paths_of_structs,
    problems_of,
)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "{}"])
def test_an_empty_file_means_the_defaults_and_is_told(text):
    loaded = load_text(text, {"ANY_PROXY_PORT": "9000"})
    assert loaded.config == Config(port="9000")
    empty, keys = loaded.warnings
    assert empty.startswith("c.yaml:1:1: file: holds no settings")
    assert keys.startswith("c.yaml:1:1: keys: there are none")
    assert "c.yaml: no settings" in report(loaded) and "no mistakes" not in report(loaded)


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


def test_secrets_are_all_keys_sessions_tokens_and_proxy_passwords():
    assert secrets(load_text(GO_SAMPLE).config) == {
        "sk-one", "12345678901234567890", "12:30", "on", "AIzaOne", "AIzaTwo", "bot-token",
        "user-token", "pat_global", "sk-ant-sid01", "pa%40ss", "pa@ss",
    }  # fmt: skip


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
        for value, hint in leaves(loaded.config, Config):
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
