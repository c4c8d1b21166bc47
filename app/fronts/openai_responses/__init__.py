"""OpenAI Responses, as callers ask for them."""
