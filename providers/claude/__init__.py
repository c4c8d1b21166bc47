"""Claude: the Anthropic Messages API here; the claude.ai web conversation beside it."""
