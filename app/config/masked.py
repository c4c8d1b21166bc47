"""The effective config for a person to read: every secret in it is masked."""

from typing import Any, get_args
from urllib.parse import urlsplit

from msgspec import UNSET

from app.config.field_types import Section
from app.config.fields import bare, extra, field_hints, has_password
from app.config.schema import Config

MASK = "[secret]"


def masked(config: Config) -> dict[str, Any]:
    """The config as JSON values, with `[secret]` in place of each secret that is set."""
    found: dict[str, Any] = _masked(config, Config)
    return found


def _masked(value: Any, hint: Any) -> Any:
    hint = bare(hint)
    if isinstance(value, Section):
        fields = field_hints(type(value)).items()
        return {name: _masked(getattr(value, name), inner) for name, inner in fields}
    if isinstance(value, list | tuple):
        return [_masked(item, get_args(hint)[0]) for item in value]
    if isinstance(value, dict):
        return {key: _masked(item, get_args(hint)[1]) for key, item in value.items()}
    if value is UNSET:
        return None
    if value and extra(hint).get("secret"):
        return MASK
    if value and has_password(hint, value):
        return value.replace(urlsplit(value).netloc.rpartition("@")[0], MASK)
    return value
