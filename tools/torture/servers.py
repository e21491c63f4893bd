"""`ran demo` and `ran serve`, each in a process of its own, and the ways to ask them."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MODEL = "attention56_cifar.digits"
Ask = Callable[[], bool]  # one request; whether it was answered with classes


@dataclass(frozen=True)
class Running:
    """A server: where it answers, its process, and the file that its output goes to."""

    address: str
    process: int
    log: Path

    @property
    def memory_mib(self) -> float:
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


@contextlib.contextmanager
def running(command: str, folder: Path) -> Iterator[Running]:
    """``ran demo`` or ``ran serve`` of a shipped model, until it answers and for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log"
    with log.open("w") as output:
        ran = [sys.executable, "-m", "residual_attention", command, MODEL, "--port", str(port)]
        process = subprocess.Popen(ran, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 180
        while f"http://127.0.0.1:{port}" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-500:])
            time.sleep(0.2)
        yield Running(f"http://127.0.0.1:{port}", process.pid, log)
    finally:
        process.kill()
        process.wait()


def _post(address: str, body: bytes, kind: str) -> bytes:
    request = urllib.request.Request(address, data=body, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return answer.read()


def _form(field: str, content: bytes, *, masks: bool = False) -> bytes:
    """A file, and whether masks are asked for, as multipart/form-data with the boundary x."""
    file = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="a.png"\r\n\r\n'.encode() + content
    wish = b'\r\n--x\r\nContent-Disposition: form-data; name="masks"\r\n\r\ntrue' if masks else b""
    return file + wish + b"\r\n--x--\r\n"


FORM = "multipart/form-data; boundary=x"


def demo_client(address: str, picture: bytes, _number: int) -> Ask:
    """Uploads a picture once; each call then classifies it without a session, as a program does."""
    path = json.loads(_post(f"{address}/gradio_api/upload", _form("files", picture), FORM))[0]
    body = json.dumps({"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}).encode()

    def ask() -> bool:
        event = json.loads(_post(f"{address}/gradio_api/call/classify", body, "application/json"))["event_id"]
        with urllib.request.urlopen(f"{address}/gradio_api/call/classify/{event}", timeout=300) as answer:
            return b"event: complete" in answer.read()

    return ask


def endpoint_client(address: str, picture: bytes, number: int) -> Ask:
    """Posts a picture; every other client asks for the masks too."""
    body = _form("images", picture, masks=number % 2 == 0)

    def ask() -> bool:
        (answer,) = json.loads(_post(f"{address}/predict", body, FORM))["predictions"]
        return bool(answer.get("class")) and len(answer.get("masks", ())) == (3 if number % 2 == 0 else 0)

    return ask
