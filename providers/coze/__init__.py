"""Coze: its open API (model `coze-api`), or its bots in a Discord channel (every other model)."""
