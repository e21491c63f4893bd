"""Guards of the page: it fetches no URLs, answers to no other host name, and keeps no history of its callers."""

import errno
import importlib
import logging
import re
import socket
import sys
import traceback
from typing import Any
from urllib.parse import unquote

import gradio as gr
from gradio.queueing import Queue
from gradio.utils import LRUCache
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

from ..errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
REMEMBERED = 256  # callers and calls in Gradio's queue; far more than wait or are answered at once
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


class NoFailures:
    """ASGI middleware: a request that no part of the page can handle is refused, without a traceback."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = False

        async def sending(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            print(f"ran: request refused: {_one_line(error)}", file=sys.stderr)
            await PlainTextResponse("The request is not valid", status_code=400)(scope, receive, send)


def _one_line(error: BaseException | None) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return "".join(c for c in text[:200] if c.isprintable())


class _OneLineTraceback:
    """In the place of the module ``traceback`` in Gradio's modules, which print what every bad request raises."""

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)

    def print_exc(self, *_arguments: Any, **_options: Any) -> None:
        print(f"ran: request failed: {_one_line(sys.exception())}", file=sys.stderr)


class _OneLineRecord(logging.Filter):
    """The server's log of an exception without the traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            record.msg, record.args = f"request failed: {_one_line(record.exc_info[1])}", ()
            record.exc_info = record.exc_text = None
        return True


def one_line_errors() -> None:
    """A request that fails is one line on stderr; the client learns no more than that it failed."""
    for name in ("queueing", "routes", "route_utils", "utils"):
        module = importlib.import_module(f"gradio.{name}")
        if hasattr(module, "traceback"):
            module.traceback = _OneLineTraceback()  # type: ignore[attr-defined]
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        if not any(isinstance(known, _OneLineRecord) for known in logger.filters):
            logger.addFilter(_OneLineRecord())


def check_address(host: str, port: int | None) -> None:
    """Raise UserError unless this machine can serve on ``host`` and ``port``. (Gradio tries a wrong host for ever.)"""
    plain = host.removeprefix("[").removesuffix("]")
    try:
        family, kind, _, _, address = socket.getaddrinfo(plain, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use; choose another --port") from error
        if isinstance(error, PermissionError):
            raise UserError(f"port {port} cannot be opened: permission denied; choose a --port above 1023") from error
        raise UserError(f"--host {host} is not an address of this machine; leave it out to use 127.0.0.1") from error


def uploads_only(component: gr.File) -> gr.File:
    """The component, made to refuse a URL in place of an uploaded file. (Gradio itself refuses local paths.)"""
    keep = component.async_move_resource_to_block_cache

    async def move(url_or_file_path: Any) -> str | None:
        if "://" in str(url_or_file_path):
            raise gr.Error(ONLY_UPLOADS, print_exception=False)
        return await keep(url_or_file_path)

    component.async_move_resource_to_block_cache = move  # type: ignore[method-assign]
    return component


def bound_history(queue: Queue) -> None:
    """Bound what a page's queue keeps of answered calls.

    Gradio keeps the names of all callers for ever, the messages of the last 2,000, and statistics of the last 10,000
    calls, which it computes anew after each.
    """
    queue.pending_event_ids_session = LRUCache(REMEMBERED)
    queue.pending_messages_per_session = LRUCache(REMEMBERED)
    queue.ANALYTICS_MAX_EVENTS = REMEMBERED


def middleware(host: str) -> list[Middleware]:
    """On a loopback address, only requests that name this machine are answered (against DNS rebinding)."""
    guards = [Middleware(NoFailures), Middleware(NoAddresses)]
    if host in LOOPBACK:
        guards.append(Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK)))
    return guards
