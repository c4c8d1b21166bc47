"""A caller as the rest of the gateway knows them, and what they may use."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from app.config.schema import AccessToken
from app.wire.errors import GatewayError

_FINAL = (("x-should-retry", "false"),)


class Caller(Struct, frozen=True):
    """Whom a request comes from. `name` tells callers apart where they share something."""

    name: str = "-"
    address: str = ""
    token: AccessToken | None = None
    is_local: bool = False  # on this machine, and no web page of somebody else's
    may_use_keys: bool = True
    is_sole: bool = False  # nobody else is expected: all places are theirs

    def need_keys(self) -> None:
        """Raises GatewayError 401, saying how to allow it, unless the configured keys are theirs.

        To be asked before a configured key is chosen, or anything tells which there are.
        """
        if not self.may_use_keys:
            raise GatewayError(
                401,
                "The gateway's keys are for callers on its own machine: send an upstream "
                "credential of your own, or ask the operator for a token (access.tokens in the "
                "config; access.protected: false would let everybody in).",
                code="access_denied",
                headers=_FINAL,
            )

    def allow(self, provider: str, model: str | None) -> None:
        """Raises GatewayError 403 for what the caller's token is not for.

        `model` is without a provider prefix, None or "" when none could be made out.
        """
        self.allow_provider(provider)
        token = self.token
        if token is None or not token.models:
            return
        family = provider.partition("-")[0]
        model = (model or "").removeprefix("models/")  # Gemini's prefix
        names = (model, f"{family}/{model}") if model else ()
        if not any(fnmatchcase(name, pattern) for name in names for pattern in token.models):
            what = f"the model {model[:64]!r}" if model else "a request that names no model"
            raise _not_allowed(what, token.models)

    def allow_provider(self, provider: str) -> None:
        """The same, of the provider alone; its family counts."""
        token, family = self.token, provider.partition("-")[0]
        if token is not None and token.providers and family not in token.providers:
            raise _not_allowed(f"the provider {family}", token.providers)

    def may(self, provider: str, model: str | None) -> bool:
        """`allow` as a question."""
        try:
            self.allow(provider, model)
        except GatewayError:
            return False
        return True


OPERATOR = Caller()


def no_token() -> GatewayError:
    return GatewayError(
        401,
        "This gateway asks for an access token, and none that it knows came: send it as "
        "Authorization: Bearer <token> (where an SDK has its API key), or as x-access-token "
        "beside an upstream credential of your own.",
        code="access_denied",
        headers=(("www-authenticate", "Bearer"), *_FINAL),
    )


def _not_allowed(what: str, instead: Sequence[str]) -> GatewayError:
    return GatewayError(
        403,
        f"Your access token is not for {what}; it is for {', '.join(instead)[:200]}.",
        code="not_allowed",
        headers=_FINAL,
    )
