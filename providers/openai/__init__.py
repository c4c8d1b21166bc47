"""OpenAI: its API, passed on byte for byte; ChatGPT's website; sign-in on its platform."""
