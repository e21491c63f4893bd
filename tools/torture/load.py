"""The demo under load: 16 clients at once, and the server's memory."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from PIL import Image

from .parts import Tally, Task

CLIENTS, FULL_EACH = 16, 500
WARM = 100  # requests, after which the memory is to stay flat
GROWTH = 0.05
MODEL = "attention56_cifar.digits"


def _memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def _post(address: str, body: bytes, kind: str) -> bytes:
    request = urllib.request.Request(address, data=body, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return answer.read()


def _upload(address: str, content: bytes) -> str:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + content + b"\r\n--x--\r\n"
    return json.loads(_post(f"{address}/gradio_api/upload", body, "multipart/form-data; boundary=x"))[0]


def _classify(address: str, path: str) -> bool:
    """One call without a session, as a program makes it; whether it was answered with classes."""
    body = json.dumps({"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}).encode()
    event = json.loads(_post(f"{address}/gradio_api/call/classify", body, "application/json"))["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/classify/{event}", timeout=300) as answer:
        return b"event: complete" in answer.read()


def _serve(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "residual_attention", "demo", MODEL, "--port", str(port)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    deadline = time.monotonic() + 180
    while "open " not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text()[-500:])
        time.sleep(0.2)
    return process, f"http://127.0.0.1:{port}"


def load(task: Task) -> dict[str, Tally]:
    tally = Tally()
    process, address = _serve(task.folder)
    memory: list[float] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        picture = task.folder / f"{number}.png"
        Image.new("RGB", (200 + number, 150), (5 * number, 90, 30)).save(picture)
        path = _upload(address, picture.read_bytes())
        for _ in task.numbers(FULL_EACH):
            try:
                answered = _classify(address, path)
            except OSError as error:
                answered, path = False, f"{path}: {error}"
            with lock:
                tally.good("answered") if answered else tally.bad(f"client {number}: {path}")
                memory.append(_memory_mib(process.pid))

    try:
        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log = (task.folder / "log").read_text()
    finally:
        process.kill()
        process.wait()
    if "Traceback" in log:
        tally.bad("a traceback on the server")
    flat = Tally()
    if len(memory) > WARM:
        text = f"{memory[0]:.0f} MiB at first, {memory[WARM]:.0f} after {WARM} requests, {memory[-1]:.0f} at the end"
        flat.good(text) if memory[-1] <= (1 + GROWTH) * memory[WARM] else flat.bad(text)
    return {"requests": tally, "memory": flat}
