"""Guards that isolate the page: it fetches no URLs and answers to no other host name."""

import re
from typing import Any
from urllib.parse import unquote

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
ONLY_UPLOADS = "Only uploaded files are accepted, not URLs."


class NoAddresses:
    """ASGI middleware: the page serves its own files and uploads, and never fetches a URL for a client."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and re.search(r"(file|proxy)=[a-z][a-z0-9+.-]*:/", unquote(scope["path"]), re.I):
            await PlainTextResponse("URLs are not accepted", status_code=403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def uploads_only(component: gr.File) -> gr.File:
    """The component, made to refuse a URL in place of an uploaded file. (Gradio itself refuses local paths.)"""
    keep = component.async_move_resource_to_block_cache

    async def move(url_or_file_path: Any) -> str | None:
        if "://" in str(url_or_file_path):
            raise gr.Error(ONLY_UPLOADS)
        return await keep(url_or_file_path)

    component.async_move_resource_to_block_cache = move  # type: ignore[method-assign]
    return component


def middleware(host: str) -> list[Middleware]:
    """On a loopback address, only requests that name this machine are answered (against DNS rebinding)."""
    guards = [Middleware(NoAddresses)]
    if host in LOOPBACK:
        guards.append(Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK)))
    return guards
