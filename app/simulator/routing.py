"""Adds a handler to a blueprint: Sanic's `route`, typed and for several methods."""

from collections.abc import Callable, Coroutine
from typing import Any

from sanic import Blueprint, HTTPResponse

Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]

READS = ("GET", "HEAD")
ANY = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def route(
    blueprint: Blueprint, path: str, *methods: str, stream: bool = False, name: str | None = None
) -> Callable[[Handler], Handler]:
    """A decorator that adds the handler; with `stream` the handler reads the body itself."""

    def register(handler: Handler) -> Handler:
        blueprint.add_route(handler, path, methods=methods, stream=stream, name=name)
        return handler

    return register
