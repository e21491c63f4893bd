"""What a request may be: its size, its sender, its time."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse

MAX_FILE_MB = 20
MAX_IMAGES = 16  # in one request
MAX_BODY_MB = 64
MAX_BODY_S = 30.0  # to send it


def refused(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status, headers={"Connection": "close"})


class TooLarge(Exception):
    """The body exceeds `MAX_BODY_MB`."""


class Limits:
    """ASGI middleware: refuses pages of other origins, bodies over `MAX_BODY_MB`, and bodies that take too long.

    A browser sends a page's origin with each upload, so a page elsewhere cannot make its visitors' browsers use the
    model.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            await refused(403, "requests from pages of another origin are not answered")(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_MB * 2**20:
            await refused(413, f"the limit is {MAX_BODY_MB} MB a request")(scope, receive, send)
            return
        seen, complete = 0, False
        end = asyncio.get_running_loop().time() + MAX_BODY_S

        async def limited() -> Any:
            nonlocal seen, complete
            if complete:
                return await receive()
            message = await asyncio.wait_for(receive(), max(end - asyncio.get_running_loop().time(), 0.001))
            seen, complete = seen + len(message.get("body", b"")), not message.get("more_body", False)
            if seen > MAX_BODY_MB * 2**20:  # sent in chunks, without a length
                raise TooLarge
            return message

        await self.app(scope, limited, send)
