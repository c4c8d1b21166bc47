"""The Gemini API, as callers speak it."""
