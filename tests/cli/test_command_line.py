"""The command line: which words it takes, in which order, and what its help says."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import check, command_line, keys, options, ping, serve

ROOT = Path(__file__).parents[2]


def parsed(line: str):
    return command_line.parser().parse_args(line.split(), options.defaults())


@pytest.mark.parametrize(
    ("line", "run", "having"),
    [
        ("", serve.run, {"config": None, "port": None}),
        ("-c f.yaml --workers 2", serve.run, {"config": "f.yaml", "workers": "2"}),
        ("serve -c f.yaml --log-format text", serve.run, {"log_format": "text"}),
        ("-c f.yaml check", check.run, {"config": "f.yaml", "live": False}),
        ("-c f.yaml check --live --json", check.run, {"config": "f.yaml", "json": True}),
        ("-c f.yaml check -c g.yaml", check.run, {"config": "g.yaml"}),
        ("--port 1 ping", ping.run, {"port": "1"}),
        ("keys", keys.run, {"action": "list", "id": None}),
        ("keys -c f.yaml list", keys.run, {"action": "list", "config": "f.yaml"}),
        ("keys --pool p reset k1", keys.run, {"action": "reset", "id": "k1", "pool": "p"}),
        ("keys reset k1 --pool p", keys.run, {"action": "reset", "id": "k1", "pool": "p"}),
    ],
)
def test_options_stand_before_or_after_the_command(line, run, having):
    args = vars(parsed(line))
    assert args["run"] is run
    assert {name: args[name] for name in having} == having


@pytest.mark.parametrize("line", ["explode", "check now", "keys explode", "presets --live"])
def test_words_that_no_command_takes_are_refused(line, capsys):
    with pytest.raises(SystemExit) as end:
        parsed(line)
    assert end.value.code == 2 and "error:" in capsys.readouterr().err


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_each_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as end:
        parsed(f"{name} --help")
    told = capsys.readouterr().out
    description = command_line.COMMANDS[name].__doc__
    assert end.value.code == 0
    assert description.strip().splitlines()[0] in told and told.startswith("usage:")


def test_a_command_line_is_read_without_importing_the_gateway():
    """A health check every few seconds imports neither the server nor the upstreams' clients."""
    code = (
        "import sys; from app.cli.command_line import parser; parser();"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'sanic', 'curl_cffi', 'httpx',"
        " 'uvloop', 'discord', 'websockets', 'providers'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
