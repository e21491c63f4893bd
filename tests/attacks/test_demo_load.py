"""The page's memory has a bound, whatever is asked of it, and a bad request is one line on the server."""

import http.client
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from residual_attention.checkpoints import load
from residual_attention.cli.main import main
from residual_attention.demo.guards import check_address
from residual_attention.demo.session import Session, open_session
from residual_attention.demo.store import SessionStore, held_bytes
from residual_attention.errors import UserError

pytestmark = pytest.mark.slow  # run by `make test-slow`


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.new("RGB", (40, 30), (200, 20, 20)).save(path)
    return open_session(load("attention56_cifar.digits"), path)


def test_sessions_are_bounded_in_number_and_the_oldest_goes_first(session: Session) -> None:
    store = SessionStore(max_sessions=3)
    tokens = [store.keep(session) for _ in range(3)]
    assert store.get(tokens[0]) is session  # used again: the next is now the oldest
    tokens.append(store.keep(session))
    assert len(store) == 3
    assert [store.get(token) is not None for token in tokens] == [True, False, True, True]


def test_sessions_are_bounded_in_bytes_but_the_newest_is_kept(session: Session) -> None:
    size = held_bytes((session.picture, session.found))
    assert size > 100_000
    store = SessionStore(max_bytes=2 * size + 1)
    for _ in range(10):
        token = store.keep(session)
        assert store.bytes <= 2 * size + 1
    small = SessionStore(max_bytes=1)
    assert small.get(small.keep(session)) is session
    assert store.get(token) is session


def test_sessions_are_forgotten_with_time(session: Session) -> None:
    now = [0.0]
    store = SessionStore(forget_after_s=10, clock=lambda: now[0])
    token = store.keep(session)
    now[0] = 11
    assert store.get(token) is None
    assert len(store) == 0


def test_a_storage_that_views_share_counts_once() -> None:
    whole = torch.zeros(1000)
    assert held_bytes({"a": whole[:10], "b": whole[10:], "c": [Image.new("RGB", (10, 10))]}) == 4000 + 300


@pytest.mark.parametrize("host", ["999.1.1.1", "203.0.113.7", "a" * 300, "1.2.3.4.5"])
def test_a_host_that_is_not_this_machine_ends_in_one_line(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "attention56_cifar.digits", "--host", host]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("ran: error: --host")
    assert "\n" not in error


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UserError, match="is in use; choose another --port"):
            check_address("127.0.0.1", other.getsockname()[1])


Request = tuple[str, str, bytes | None, dict[str, str]]  # method, path, body, headers

PATHS = (
    "/file=/etc/passwd",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=http://127.0.0.1/",
    "/gradio_api/proxy=x",
    "/gradio_api/queue/data",
    "/gradio_api/call/classify/none",
    "/static/../../a",
    "/%00",
    "/" + "a" * 5000,
)
ENDPOINTS = ("call/classify", "call/none", "run/classify", "queue/join", "api/classify", "reset", "component_server")
VALUES = ("x", 7, {"path": "/etc/passwd"}, {"path": 1}, [1])
BODIES = (
    *(b"", b"{", b"[]", b"null", b'{"data": 1}', b'{"data": []}', b'{"data": [1, 2, 3]}', b"[" * 100_000, b"\xff\xfe"),
    *(json.dumps({"data": [value]}).encode() for value in VALUES),
    *(json.dumps({"data": [None], "session_hash": value, "fn_index": 99}).encode() for value in (1, "a", None, {})),
)


def hostile() -> list[Request]:
    requests: list[Request] = [("GET", path, None, {}) for path in PATHS]
    for endpoint in ENDPOINTS:
        as_json = {"Content-Type": "application/json"}
        requests += [("POST", f"/gradio_api/{endpoint}", body, as_json) for body in BODIES]
    requests += [(method, "/", b"{}", {}) for method in ("PUT", "DELETE", "PATCH", "TRACE")]
    for kind in ("multipart/form-data", "a", "", "multipart/form-data; boundary=x", "application/json"):
        requests.append(("POST", "/gradio_api/upload", b"x", {"Content-Type": kind}))
    return requests


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a demo in a process of its own, and the file that its output goes to."""
    pytest.importorskip("gradio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log, address = tmp_path / "log", f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "residual_attention", "demo", "attention56_cifar.digits", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 120
        while "open " not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield address, log
    finally:
        process.kill()
        process.wait()


def test_hostile_requests_are_refused_without_a_traceback(server: tuple[str, Path]) -> None:
    address, log = server
    answered = []
    for method, path, body, headers in hostile():
        request = urllib.request.Request(address + path, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                answered.append(answer.read(2000))
        except urllib.error.HTTPError as error:
            answered.append(error.read(2000))
        except http.client.IncompleteRead as error:  # a stream that the server gave up
            answered.append(error.partial)
    assert len(answered) >= 144
    assert "Traceback" not in log.read_text()
    assert not any(b"root:" in text or b"Traceback" in text for text in answered)
