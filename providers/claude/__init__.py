"""Claude: Anthropic's Messages API (`api`) and the claude.ai website (`web`)."""
