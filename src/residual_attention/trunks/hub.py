"""Whether the hub that timm's weights come from can be reached."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

WAIT_S = 3.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@contextmanager
def hub_offline_if_unreachable() -> Iterator[None]:
    """Within the context, an unreachable hub is not asked: cached weights load at once, others fail at once.

    Its client would try for most of a minute, and print each attempt.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(endpoint: str) -> bool:
    """Whether a connection to the endpoint opens; taken for granted behind a proxy."""
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return True
    address = urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=WAIT_S):
            return True
    except OSError:
        return False
