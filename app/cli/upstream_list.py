"""`run.py presets`, and the lines of `run.py check` about `upstreams`: names and addresses."""

from app.cli.table import as_table
from app.config.presets import PRESETS, Preset
from app.config.schema import Config
from providers.openai import compatible

HEAD = ("name", "address", "variable")


def row(preset: Preset) -> tuple[str, str, str]:
    """One preset in words: name and aliases, address or what it looks like, variable."""
    address = preset.api_url or f"{preset.example} (yours: api_url)"
    return ", ".join((preset.name, *preset.aliases)), address, preset.variable or "-"


def presets_table() -> str:
    """All presets as aligned columns."""
    return as_table([HEAD, *map(row, PRESETS)])


def check_lines(config: Config) -> list[str]:
    """The address that each upstream will be asked at."""
    return [
        f"upstreams.{each.name} is asked at "
        f"{compatible.address(each, '/chat/completions', 'MODEL')}"
        for each in config.upstreams
    ]
