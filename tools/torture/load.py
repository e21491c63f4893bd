"""The demo and the HTTP endpoint under load: 16 clients at once, the server's memory, and hostile requests."""

import io
import threading
from collections.abc import Callable

from PIL import Image

from .parts import Tally, Task
from .servers import Ask, Running, demo_client, endpoint_client, running
from .suites import TESTS, run_pytest

CLIENTS, FULL_EACH = 16, 500
WARM = 100  # requests, after which the memory is to stay flat
GROWTH = 0.05
SERVERS: dict[str, Callable[[str, bytes, int], Ask]] = {"demo": demo_client, "serve": endpoint_client}
SHARES = {"demo": 0.7, "serve": 0.3}  # of the time limit; the demo draws each answer, and one at a time


def _picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (200 + number, 150), (5 * number, 90, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def _asked(server: Running, client: Callable[[str, bytes, int], Ask], task: Task) -> tuple[Tally, list[float]]:
    """All clients' requests, and the server's memory after each."""
    tally, memory, lock = Tally(), [], threading.Lock()

    def asking(number: int) -> None:
        ask: Ask | None = None
        for _ in task.numbers(FULL_EACH):
            try:
                ask = ask or client(server.address, _picture(number), number)
                answered, why = ask(), "not answered with classes"
            except OSError as error:
                answered, why = False, str(error)
            with lock:
                tally.good("answered") if answered else tally.bad(f"client {number}: {why}")
                memory.append(server.memory_mib)

    threads = [threading.Thread(target=asking, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally, memory


def _flat(memory: list[float]) -> Tally:
    tally = Tally()
    if len(memory) > WARM:
        text = f"{memory[0]:.0f} MiB at first, {memory[WARM]:.0f} after {WARM} requests, {memory[-1]:.0f} at the end"
        tally.good(text) if memory[-1] <= (1 + GROWTH) * memory[WARM] else tally.bad(text)
    return tally


def _loaded(command: str, task: Task) -> dict[str, Tally]:
    with running(command, task.folder) as server:
        requests, memory = _asked(server, SERVERS[command], task)
        log = server.log.read_text()
    if "Traceback" in log:
        requests.bad("a traceback on the server")
    return {f"{command}: requests": requests, f"{command}: memory": _flat(memory)}


def load(task: Task) -> dict[str, Tally]:
    """Each server in turn; then the hostile requests, all of them whatever the size."""
    found: dict[str, Tally] = {}
    for command in SERVERS:
        found |= _loaded(command, task.part(SHARES[command], command))
        hostile = f"{TESTS / 'test_hostile_requests.py'}::test_{command}_refuses_a_hostile_request"
        found[f"{command}: hostile requests"] = run_pytest(task, "-m", "slow", hostile)
    return found
