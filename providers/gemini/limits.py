"""The most tokens each model may answer with, learned from its refusals in this worker."""

from app.wire.token_limit import TokenLimits

LIMITS = TokenLimits()
