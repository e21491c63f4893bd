"""What no honest client sends to the demo and the endpoint: refused, and at most one line on the server."""

import contextlib
import http.client
import io
import itertools
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow  # run by `make test-slow`


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


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
METHODS = ("PUT", "DELETE", "PATCH", "TRACE")
ENDPOINTS = ("call/classify", "call/none", "run/classify", "queue/join", "api/classify", "reset", "component_server")
VALUES = ("x", 7, {"path": "/etc/passwd"}, {"path": 1}, [1])
BODIES = (
    *(b"", b"{", b"[]", b"null", b'{"data": 1}', b'{"data": []}', b'{"data": [1, 2, 3]}', b"[" * 100_000, b"\xff\xfe"),
    *(json.dumps({"data": [value]}).encode() for value in VALUES),
    *(json.dumps({"data": [None], "session_hash": value, "fn_index": 99}).encode() for value in (1, "a", None, {})),
)


def to_demo() -> list[Request]:
    requests = [Request("GET", path) for path in PATHS]
    for endpoint in ENDPOINTS:
        as_json = {"Content-Type": "application/json"}
        requests += [Request("POST", f"/gradio_api/{endpoint}", body, as_json) for body in BODIES]
    requests += [Request(method, "/", b"{}") for method in METHODS]
    for kind in ("multipart/form-data", "a", "", "multipart/form-data; boundary=x", "application/json"):
        requests.append(Request("POST", "/gradio_api/upload", b"x", {"Content-Type": kind}))
    return requests


KINDS = (
    *("", "a", "application/json", "application/x-www-form-urlencoded", "multipart/form-data"),
    *("multipart/form-data; boundary=x", "multipart/form-data; boundary=" + "x" * 5000),
)
FORMS = (
    *(b"", b"{", b"\xff\xfe", b"images=a&masks=true", b"--x", b"--x\r\n\r\n", b"--x--\r\n", b"--x\r\n" * 10_000),
    b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\nno file\r\n--x--\r\n',
    b'--x\r\nContent-Disposition: form-data; name="images"; filename="\xff\xfe\0"\r\n\r\na\r\n--x--\r\n',
    b"--x\r\n" + b"A: b\r\n" * 10_000 + b"\r\na\r\n--x--\r\n",
)
NAMES = (b"../../etc/passwd", b"a" * 5000, b'"; name="masks')


def _bomb() -> bytes:
    """A PNG whose header says 100,000 px square."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    return bytes(content)


FILES = (
    *(b"", b"\0" * 5000, b"no image", b"%!PS-Adobe-3.0 EPSF\n", b"<svg onload='x'/>", b"GIF89a" + b"\xff" * 50),
    *(b"\x89PNG\r\n\x1a\n" + b"\xff" * 500, b"\xff\xd8\xff\xe0" * 100, b"II*\0\x08\0\0\0" + b"\xff" * 200, _bomb()),
)


def to_serve() -> list[Request]:
    requests = [
        Request("POST", "/predict", form, {"Content-Type": kind}) for form, kind in itertools.product(FORMS, KINDS)
    ]
    for content, name, masks in itertools.product(FILES, NAMES, (b"true", b"maybe")):
        file = b'--x\r\nContent-Disposition: form-data; name="images"; filename="%b"\r\n\r\n%b\r\n' % (name, content)
        wish = b'--x\r\nContent-Disposition: form-data; name="masks"\r\n\r\n%b\r\n--x--\r\n' % masks
        requests.append(Request("POST", "/predict", file + wish, {"Content-Type": "multipart/form-data; boundary=x"}))
    requests += [Request("GET", path) for path in ("/predict", "/../etc/passwd", "/%00", "/" + "a" * 5000)]
    requests += [Request(method, "/predict", b"{}") for method in METHODS]
    requests += [Request("GET", "/health", None, {name: "http://evil.example"}) for name in ("Host", "Origin")]
    requests += [Request("POST", "/predict", b"x", {"Content-Length": length}) for length in ("x", "-1", "1e3")]
    return requests


@dataclass(frozen=True)
class Server:
    address: str
    log: Path


@contextlib.contextmanager
def _running(command: str, folder: Path) -> Iterator[Server]:
    """A server in a process of its own. Fails if a traceback is in its output at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log, address = folder / "log", f"http://127.0.0.1:{port}"
    ran = [sys.executable, "-m", "residual_attention", command, "attention56_cifar.digits", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(ran, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 120
        while address not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Server(address, log)
        time.sleep(2)  # what was queued is done by then
        assert process.poll() is None, "the server ended"
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("gradio")
    with _running("demo", tmp_path_factory.mktemp("demo")) as server:
        yield server


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("fastapi")
    with _running("serve", tmp_path_factory.mktemp("serve")) as server:
        yield server


def _answer(server: Server, asked: Request) -> tuple[int, bytes]:
    """Status, and the first bytes of the body; no traceback in either the answer or the log."""
    request = urllib.request.Request(
        server.address + asked.path, data=asked.body, headers=asked.headers, method=asked.method
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            found = answer.status, answer.read(2000)
    except urllib.error.HTTPError as error:
        found = error.code, error.read(2000)
    except http.client.IncompleteRead as error:  # a stream that the server gave up
        found = 200, error.partial
    assert b"root:" not in found[1]
    assert b"Traceback" not in found[1]
    assert "Traceback" not in server.log.read_text()
    return found


@pytest.mark.parametrize("asked", to_demo(), ids=itertools.count())
def test_demo_refuses_a_hostile_request(demo: Server, asked: Request) -> None:
    status, body = _answer(demo, asked)
    assert status < 500
    if asked.path.startswith("/gradio_api/call/") and b"event_id" in body:  # queued: its answer is fetched by name
        status, _ = _answer(demo, Request("GET", f"{asked.path}/{json.loads(body)['event_id']}"))
        assert status < 500


@pytest.mark.parametrize("endpoint", ["run/classify", "api/classify"])
def test_a_call_that_would_skip_the_queue_is_refused_in_one_line(demo: Server, endpoint: str) -> None:
    body = json.dumps({"data": [None]}).encode()  # answered, were it in the queue
    status, line = _answer(demo, Request("POST", f"/gradio_api/{endpoint}", body, {"Content-Type": "application/json"}))
    assert status == 404
    assert "join the queue" in json.loads(line)["detail"]


@pytest.mark.parametrize("asked", to_serve(), ids=itertools.count())
def test_serve_refuses_a_hostile_request(serve: Server, asked: Request) -> None:
    status, _ = _answer(serve, asked)
    assert 400 <= status < 500
