"""OpenAI's endpoints beside chat, by their paths below the base URL.

Their bodies and answers are carried as bytes. Each provider says in `Provider.endpoints` which of
them it has. Source: protocol sheet openai-compatible, section 9.
"""

from typing import Literal, get_args

Endpoint = Literal[
    "completions",
    "embeddings",
    "images/generations",
    "moderations",
    "rerank",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
# Their bodies are forms with a file; all others are JSON objects.
FORMS: frozenset[Endpoint] = frozenset({"audio/transcriptions", "audio/translations"})
# What OpenAI's own API has.
OPENAI_ENDPOINTS = frozenset(ENDPOINTS) - {"rerank"}
