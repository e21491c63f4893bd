"""The load that `ran serve` holds on this machine: requests a second and their latency, by the number of clients.

Each client posts one photo, waits for the answer, and posts the next. With batches of 16 and of 1, interleaved.

python benchmarks/serving.py MODEL FOLDER [--seconds 10] [--rounds 2] [--out results/benchmark_serving.json]
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from record import write_record
from residual_attention.data.find import find_images

CLIENTS = (1, 4, 16)
BATCHES = (1, 16)


@contextmanager
def server(model: str, batch: int):
    """The address of a server in its own process."""
    command = [sys.executable, "-W", "ignore", "-m", "residual_attention", "serve", model, "--port", "0"]
    process = subprocess.Popen([*command, "--batch-size", str(batch)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1].removesuffix("/docs")
    finally:
        process.terminate()
        process.wait()


def load(address: str, photos: list[bytes], clients: int, seconds: float) -> dict[str, float]:
    """Requests a second, and the median and 95th percentile of their latency in ms."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    def work(first: int) -> None:
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            number = first
            while time.perf_counter() < end:
                start = time.perf_counter()
                client.post("/predict", files={"images": photos[number % len(photos)]}).raise_for_status()
                latencies.append(time.perf_counter() - start)
                number += clients

    threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lasted = time.perf_counter() - start
    ranks = statistics.quantiles(latencies, n=20) if len(latencies) > 1 else latencies * 20
    return {
        "requests_per_s": len(latencies) / lasted,
        "median_ms": 1e3 * statistics.median(latencies),
        "p95_ms": 1e3 * ranks[18],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    photos = [path.read_bytes() for path in find_images([given.folder])]
    found: dict[tuple[int, int], list[dict[str, float]]] = {}
    engine = ""
    for _ in range(given.rounds):
        for batch in BATCHES:
            with server(given.model, batch) as address:
                load(address, photos, 4, 2)  # warm up
                about = httpx.get(f"{address}/model", trust_env=False).json()
                engine = about["engine"]
                for clients in CLIENTS:
                    found.setdefault((batch, clients), []).append(load(address, photos, clients, given.seconds))
    result = {
        "model": about["model"],
        "image_size_px": about["image_size"],
        "engine": engine,
        "seconds": given.seconds,
        "rounds": given.rounds,
        "load": [
            {"batch": batch, "clients": clients}
            | {name: round(statistics.median(one[name] for one in rows), 1) for name in rows[0]}
            for (batch, clients), rows in sorted(found.items())
        ],
    }
    write_record(result, given.out)


if __name__ == "__main__":
    main()
