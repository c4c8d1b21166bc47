"""Every key and every limit that the config names."""

from app.config.schema import Config
from app.state.rate_windows import Limits
from app.wire.provider import Key


def configured(config: Config) -> dict[str, list[Key]]:
    """Every pool of the config: pool name -> its keys, in the file's order."""
    pools: dict[str, list[Key]] = {
        "openai.api_keys": [Key("openai.api_keys", k.id, k.val) for k in config.openai.api_keys],
        "openai.web_sessions": [
            Key("openai.web_sessions", s.id, s.val) for s in config.openai.web_sessions
        ],
        "claude.api_keys": [Key("claude.api_keys", k.id, k.val) for k in config.claude.api_keys],
        "claude.web_sessions": [
            Key("claude.web_sessions", s.id, s.val, {"organization_id": s.organization_id})
            for s in config.claude.web_sessions
        ],
        "google_gemini.api_keys": [
            Key("google_gemini.api_keys", k.id, k.val, {"version": k.version})
            for k in config.google_gemini.api_keys
        ],
        "coze.bots": [
            Key(
                "coze.bots",
                f"{bot.user}/{bot.bot_id}",
                bot.access_token or config.coze.api_chat.access_token,
                {"user": bot.user, "bot_id": bot.bot_id},
            )
            for bot in config.coze.api_chat.bots
        ],
    }
    if config.coze.discord.enable:
        # The accounts that post are the bridge's; its own bot stands for all of them here.
        token = config.coze.discord.chat_bot_token
        pools["coze.discord"] = [Key("coze.discord", "discord", token)]
    return {name: [key for key in keys if key.val] for name, keys in pools.items()}


def limits_of(config: Config) -> dict[tuple[str, str], Limits]:
    """The limits the config sets: (pool, id) -> them."""
    pools = {
        "openai.api_keys": config.openai.api_keys,
        "openai.web_sessions": config.openai.web_sessions,
        "claude.api_keys": config.claude.api_keys,
        "claude.web_sessions": config.claude.web_sessions,
        "google_gemini.api_keys": config.google_gemini.api_keys,
    }
    found = {}
    for pool, entries in pools.items():
        for entry in entries:  # type: ignore[attr-defined]
            limits = Limits(entry.max_concurrent, entry.rpm, entry.tpm)
            if limits != Limits():
                found[pool, entry.id] = limits
    return found
