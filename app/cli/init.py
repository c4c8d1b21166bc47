"""Writes a first config: asks for API keys, tests them at their upstreams, writes the file.

Keys are read without echo. A key that is in the environment already (OPENAI_API_KEY ...) is written
as a reference to its variable. The file gets mode 0600; a file that exists is never overwritten.

Without a terminal: --no-input takes the keys from the environment, and --upstream names further
hosts, each with its own variable (`presets` lists both) and, after "=", an address of yours:
  --upstream deepseek --upstream vllm=http://10.0.0.5:8000/v1
"""

import asyncio
import getpass
import json
import os
import secrets
import sys
import tempfile
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from app.cli.failure import CommandFailed
from app.config.families import FAMILIES
from app.config.load import DEFAULT_PATH, ConfigError, Loaded, load, report
from app.config.presets import PRESETS, Preset

HELP = "ask for keys, test them and write a config"


class _Entry(Struct):
    """A key for the file: of a section of its own, or of an entry of `upstreams`."""

    name: str  # section, or preset
    val: str = ""  # as it stands in the file, a reference perhaps; "" for a host without keys
    api_url: str = ""  # "": the preset's


class _Wanted(Struct):
    """A further upstream that was named, as `deepseek` or `vllm=http://10.0.0.5:8000/v1`."""

    preset: Preset
    api_url: str


class _Answers(Struct):
    """What the file will say."""

    families: list[_Entry]
    upstreams: list[_Entry]
    shared: bool  # for callers on other machines too


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the file's path and what replaces questions."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", default=SUPPRESS, help=f"default: {DEFAULT_PATH}"
    )
    parser.add_argument("--no-input", action="store_true", help="ask nothing")
    parser.add_argument(
        "--upstream",
        metavar="NAME[=URL]",
        action="append",
        default=[],
        help="a preset, with an address in place of its own; can be repeated",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="listen on every address, with a token for callers and one for operators",
    )
    parser.add_argument("--no-test", action="store_true", help="ask no upstream about the keys")


def run(args: Namespace) -> int:
    """0: written. Raises CommandFailed: 2 for what cannot be written so, 1 for keys not valid."""
    path = Path(args.config or os.environ.get("ANY_PROXY_CONFIG") or DEFAULT_PATH)
    if os.path.lexists(path):
        raise CommandFailed(f"{path} exists, and is not overwritten; name another by -c", 2)
    if not args.no_input and not sys.stdin.isatty():
        raise CommandFailed(
            "nobody can be asked here (stdin is no terminal); set OPENAI_API_KEY or the like and "
            "give --no-input",
            2,
        )
    named = [_wanted(word) for word in args.upstream]
    try:
        answers = _from_environment(named, args.share) if args.no_input else _ask(named, args)
    except (EOFError, KeyboardInterrupt):
        raise CommandFailed("\nnothing was written", 1) from None
    if not answers.families and not answers.upstreams:
        variables = ", ".join(family.variables[0] for family in FAMILIES if family.variables)
        raise CommandFailed(f"no key was given, so nothing was written; {variables} are asked for")
    _write(path, answers, args)
    print(f"{path} is written. Start the gateway: {_program()} -c {path}")
    return 0


def _write(path: Path, answers: _Answers, args: Namespace) -> None:
    """Writes the file if what it says holds: all of it, or nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    except OSError as error:
        raise CommandFailed(f"cannot write in {path.parent}: {error.strerror}", 2) from None
    try:
        with os.fdopen(handle, "w") as file:
            file.write(_rendered(answers, path))
        loaded = load(name, os.environ)
        if not args.no_test and not _are_valid(loaded) and not _wanted_anyway(args):
            raise CommandFailed("nothing was written; --no-test writes it without asking anybody")
        os.link(name, path)  # fails if it has come to exist meanwhile
    except ConfigError as error:
        raise CommandFailed(report(error).replace(name, str(path)), 2) from None
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}", 2) from None
    finally:
        os.unlink(name)


def _program() -> str:
    name = os.path.basename(sys.argv[0])
    return f"python {name}" if name.endswith(".py") else name


def _wanted(word: str) -> _Wanted:
    name, _, api_url = word.partition("=")
    for preset in PRESETS:
        if name in (preset.name, *preset.aliases):
            return _Wanted(preset, api_url)
    raise CommandFailed(f"{name}: no such preset; `presets` lists them", 2)


def _from_environment(named: list[_Wanted], shared: bool) -> _Answers:
    families = []
    for family in FAMILIES:
        if variable := _set_one(family.variables):
            families.append(_Entry(family.section, f"${{{variable}}}"))
    upstreams = []
    for one in named:
        name, variable = one.preset.name, one.preset.variable
        if not (one.api_url or one.preset.api_url):
            like = one.preset.example
            raise CommandFailed(f"{name} needs its address: --upstream {name}=URL, like {like}", 2)
        if variable and not os.environ.get(variable):
            raise CommandFailed(f"{name}: set {variable}", 2)
        upstreams.append(_Entry(name, f"${{{variable}}}" if variable else "", one.api_url))
    return _Answers(families, upstreams, shared)


def _ask(named: list[_Wanted], args: Namespace) -> _Answers:
    print("API keys, as the upstreams gave them to you. They are not shown; Enter skips one.")
    families = []
    for family in FAMILIES:
        if family.variables and (val := _ask_key(family.name, family.variables)):
            families.append(_Entry(family.section, val))
    while not named:
        words = input("Further upstreams, such as deepseek, groq, ollama (Enter: none): ")
        try:
            named = [_wanted(word) for word in words.replace(",", " ").split()]
        except CommandFailed as error:
            print(error)
            continue
        break
    upstreams = []
    for one in named:
        preset, entry = one.preset, _Entry(one.preset.name, api_url=one.api_url)
        if not (entry.api_url or preset.api_url):
            entry.api_url = input(f"Address of {preset.name}, like {preset.example}: ").strip()
        if preset.variable:
            entry.val = _ask_key(preset.name, (preset.variable,))
            if not entry.val:
                continue
        upstreams.append(entry)
    shared = args.share or _yes("Shall programs on other machines use it? [y/N] ")
    return _Answers(families, upstreams, shared)


def _ask_key(name: str, variables: tuple[str, ...]) -> str:
    """The key as it shall stand in the file; "" for none."""
    if (variable := _set_one(variables)) and _yes(f"{name}: use {variable}? [Y/n] ", default=True):
        return f"${{{variable}}}"
    while True:
        val = getpass.getpass(f"{name} key: ").strip()
        if val.isascii() and val.isprintable() and " " not in val:
            return val.replace("${", "$${")
        print("That is no key: it has a space or a sign that no key has.")


def _set_one(variables: tuple[str, ...]) -> str:
    return next((name for name in variables if os.environ.get(name)), "")


def _yes(question: str, *, default: bool = False) -> bool:
    answer = input(question).strip().lower()
    return answer[0] == "y" if answer else default


def _are_valid(loaded: Loaded) -> bool:
    from app.cli import check_keys

    findings = asyncio.run(check_keys.examine(loaded.config))
    print(check_keys.as_table(findings))
    return all(one.state == "valid" for one in findings)


def _wanted_anyway(args: Namespace) -> bool:
    if args.no_input:
        return False
    try:
        return _yes("Not every key is valid. Write the file all the same? [y/N] ")
    except (EOFError, KeyboardInterrupt):
        return False


def _rendered(answers: _Answers, path: Path) -> str:
    return "\n".join(_lines(answers, path)) + "\n"


def _lines(answers: _Answers, path: Path) -> Iterator[str]:
    yield f"# Written by `{_program()} init`. Another key: copy an entry, with an id of its own."
    yield "# All there is to set: etc/c.yaml in the source of any-proxy, and its docs/."
    yield f"# After a change: {_program()} check --live -c {path}"
    yield f"#                 {_program()} reload -c {path}"
    yield ""
    if answers.shared:
        yield 'port: ":8999"                # every address of this machine'
    else:
        yield 'port: "127.0.0.1:8999"       # this machine only; ":8999" for every address'
    for entry in answers.families:
        yield from ("", f"{entry.name}:", "  api_keys:")
        yield "    - id: main               # in the log, in metrics and in x-auth-id; not secret"
        yield f"      val: {json.dumps(entry.val)}"
    if answers.upstreams:
        yield from ("", "upstreams:                   # asked for as NAME/model")
    for entry in answers.upstreams:
        yield f"  - name: {entry.name}"
        if entry.api_url:
            yield f"    api_url: {json.dumps(entry.api_url)}"
        if entry.val:
            yield f"    api_keys: [{{id: main, val: {json.dumps(entry.val)}}}]"
    if answers.shared:
        yield from ("", "access:", "  tokens:                    # sent in place of an API key")
        yield from ("    - id: everybody", f"      val: {secrets.token_hex(24)}")
        yield from ("", "admin:                       # /admin/ and /metrics from other machines")
        yield f"  token: {secrets.token_hex(24)}"
