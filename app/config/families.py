"""Provider families as the config file knows them: sections, lists of credentials, variables.

The only list of families in this package. Everything that differs between them is a member here.
The key pools are made of it too (app/pool/configured_keys.py).
"""

from collections.abc import Mapping

from msgspec import Struct

from app.config.schema import Config


class KeyList(Struct, frozen=True):
    """A list of credentials, which fills one key pool: `SECTION.PATH`.

    `address` names the member of the section that holds the upstream's URL; "" where
    `app/pool/configured_keys.py` reads the list by a rule of its own.
    """

    path: str  # below the section
    address: str = ""
    fields: tuple[str, ...] = ()  # members of an entry that its provider needs, besides id and val
    is_web_sessions: bool = False  # its keys expire and are renewed


_API_KEYS = KeyList("api_keys", "api_url")


class Family(Struct, frozen=True):
    """What one provider family contributes to the config."""

    name: str  # as in access.tokens[].providers
    section: str  # its key in the file
    pools: tuple[KeyList, ...] = ()
    variables: tuple[str, ...] = ()  # that can replace `api_keys`; the first one set counts
    other_names: tuple[str, ...] = ()  # further providers of it that `provider` can name

    def pool_sizes(self, config: Config) -> dict[str, int]:
        """Path of each list of credentials -> number of entries."""
        sizes = {}
        for pool in self.pools:
            value = getattr(config, self.section)
            for name in pool.path.split("."):
                value = getattr(value, name)
            sizes[f"{self.section}.{pool.path}"] = len(value)
        return sizes


FAMILIES = (
    Family(
        "openai",
        "openai",
        (_API_KEYS, KeyList("web_sessions", "chat_web_url", is_web_sessions=True)),
        ("OPENAI_API_KEY",),
        ("openai-chat-web",),
    ),
    Family(
        "claude",
        "claude",
        (
            _API_KEYS,
            KeyList("web_sessions", "web_url", ("organization_id",), is_web_sessions=True),
        ),
        ("ANTHROPIC_API_KEY",),
    ),
    Family(
        "gemini",
        "google_gemini",
        (KeyList("api_keys", "api_url", ("version",)),),
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
    Family("bing", "bing"),
    Family("coze", "coze", (KeyList("api_chat.bots"), KeyList("discord.auth"))),
)
# Environment variable -> section. A file is not needed when one of these is set; beside a file they
# count only where it says ${NAME}.
KEY_VARIABLES = {name: family.section for family in FAMILIES for name in family.variables}
# What `provider` and a model's prefix can name, besides the entries of `upstreams`.
PROVIDER_NAMES = tuple(name for family in FAMILIES for name in (family.name, *family.other_names))


def pool_sizes(config: Config) -> dict[str, int]:
    """Path of every list of credentials -> number of entries."""
    built_in = {
        path: size for family in FAMILIES for path, size in family.pool_sizes(config).items()
    }
    return built_in | {
        f"upstreams.{each.name}": len(each.api_keys or ()) for each in config.upstreams
    }


def config_from_variables(environ: Mapping[str, str]) -> bytes:
    """A config file with one API key for each family whose variable is set; b"" if none is."""
    lines = []
    for family in FAMILIES:
        name = next((name for name in family.variables if environ.get(name)), None)
        if name:
            lines.append(f'{family.section}: {{api_keys: [{{id: env, val: "${{{name}}}"}}]}}\n')
    return "".join(lines).encode()
