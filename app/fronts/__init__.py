"""How callers speak to the gateway. Pure, like providers."""
