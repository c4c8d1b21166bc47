"""Google's Gemini: the Developer API with an API key (generativelanguage.googleapis.com)."""
