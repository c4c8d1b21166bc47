"""The authenticated caller, and which keys, providers and models they may use."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import inf

from msgspec import Struct

from app.config.schema import AccessToken
from app.wire.errors import GatewayError

_FINAL = (("x-should-retry", "false"),)


class Caller(Struct, frozen=True):
    """The caller of a request. `name` identifies them where callers share something, such as
    places in the queue: the token's id, or without tokens the client group of the address."""

    name: str = "-"
    address: str = ""
    token: AccessToken | None = None
    is_local: bool = False  # on this machine, and not a web page of another site
    may_use_keys: bool = True
    is_sole: bool = False  # the only caller expected: may take all places
    until: float = inf  # Unix time at which the token expires

    def need_keys(self) -> None:
        """Raises GatewayError 401, with the remedy, unless the caller may use the configured keys.

        To be called before a configured key is chosen, or before an answer reveals which there are.
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

    def allow(self, family: str, model: str | None) -> None:
        """Raises GatewayError 403 unless the caller's token covers this family and model.

        `model` has no provider prefix; None or "" means that the request names none.
        """
        self.allow_family(family)
        token = self.token
        if token is None or not token.models:
            return
        model = (model or "").removeprefix("models/")  # Gemini's prefix
        names = (model, f"{family}/{model}") if model else ()
        if not any(fnmatchcase(name, pattern) for name in names for pattern in token.models):
            what = f"the model {model[:64]!r}" if model else "a request that names no model"
            raise _not_allowed(what, token.models)

    def allow_family(self, family: str) -> None:
        """Raises GatewayError 403 unless the caller's token covers this family of providers."""
        token = self.token
        if token is not None and token.providers and family not in token.providers:
            raise _not_allowed(f"the provider {family}", token.providers)

    def may(self, family: str, model: str | None) -> bool:
        """Whether `allow` would pass."""
        try:
            self.allow(family, model)
        except GatewayError:
            return False
        return True


OPERATOR = Caller()


def token_required() -> GatewayError:
    """The 401 for a request without a known access token."""
    return GatewayError(
        401,
        "This gateway asks for an access token, and none that it knows came: send it as "
        "Authorization: Bearer <token> (where an SDK has its API key), or as x-access-token "
        "beside an upstream credential of your own.",
        code="access_denied",
        headers=(("www-authenticate", "Bearer"), *_FINAL),
    )


def token_ended(how: str) -> GatewayError:
    """The 401 for a known access token that may not be used any more: `how` is "disabled" or
    "expired"."""
    return GatewayError(
        401,
        f"Your access token is {how}; ask the operator of this gateway for another one.",
        code=f"token_{how}",
        headers=(("www-authenticate", "Bearer"), *_FINAL),
    )


def tokens_unknown() -> GatewayError:
    """The 503 for a token that may be right: those added while running could not be read yet."""
    return GatewayError(
        503,
        "The access token is none of the config's, and the gateway could not read yet which ones "
        "its operator has added; ask again in a while.",
        code="tokens_unavailable",
        retry_after=5,
    )


def _not_allowed(what: str, instead: Sequence[str]) -> GatewayError:
    return GatewayError(
        403,
        f"Your access token is not for {what}; it is for {', '.join(instead)[:200]}.",
        code="not_allowed",
        headers=_FINAL,
    )
