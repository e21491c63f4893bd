"""Runs the application on uvicorn."""

import socket

import uvicorn
from fastapi import FastAPI

from ..errors import UserError

CONNECTIONS = 64  # more are answered with 503
KEEP_ALIVE_S = 5


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError where it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot serve on {host}, port {port}: {reason}; choose another --port") from None


def serve(app: FastAPI, place: socket.socket) -> None:
    """Serve until Ctrl-C."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=16 * 1024,
    )
    uvicorn.Server(config).run(sockets=[place])
