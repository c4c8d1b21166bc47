"""Callers: bytes become requests, answers become bytes. Only this room and process know Sanic."""
