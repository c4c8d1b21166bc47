"""OpenAI chat completions, as callers ask for them."""
