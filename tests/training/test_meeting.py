"""The processes of an attempt find each other, and none of an earlier one, in a store that keeps everything."""

import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch.distributed as dist

from residual_attention.training import distributed
from residual_attention.training.meeting import Address, PeerLost, meet

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun is tested on Unix")

LIMIT_S, BRIEF_S = 60.0, 0.3
Met = tuple[dist.Store, list[Address]]


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def coming(pool: ThreadPoolExecutor, store: dist.Store, rank: int, pid: int, world: int = 2) -> "Future[Met]":
    return pool.submit(meet, store, rank, world, ("host", pid), LIMIT_S)


def test_all_meet_in_one_part_of_the_store(pool):
    shared = dist.HashStore()
    met = [coming(pool, shared, rank, 10 + rank, world=3).result for rank in (2, 0, 1)]
    stores, addresses = zip(*(result(LIMIT_S) for result in met), strict=True)
    assert list(addresses) == [[("host", 10), ("host", 11), ("host", 12)]] * 3
    stores[0].set("key", "value")
    assert [store.get("key") for store in stores] == [b"value"] * 3
    assert not shared.check(["key"])


def test_a_process_does_not_meet_those_of_an_earlier_attempt(pool):
    shared = dist.HashStore()
    before = [coming(pool, shared, rank, 10 + rank) for rank in range(2)]
    before[0].result(LIMIT_S)[0].set("address", "of a process that has ended")
    before[1].result(LIMIT_S)
    first = coming(pool, shared, 1, 21)  # started again, before rank 0 is
    time.sleep(BRIEF_S)
    assert not first.done()
    coming(pool, shared, 0, 20)
    store, addresses = first.result(LIMIT_S)
    assert addresses == [("host", 20), ("host", 21)]
    assert not store.check(["address"])


def test_nor_those_of_an_attempt_that_one_rank_never_entered(pool):
    shared = dist.HashStore()
    with pytest.raises(PeerLost, match="1 of the 2 processes of this run did not start in time: rank 1; look"):
        meet(shared, 0, 2, ("host", 10), BRIEF_S)
    first = coming(pool, shared, 1, 21)
    time.sleep(BRIEF_S)
    assert not first.done()
    coming(pool, shared, 0, 20)
    assert first.result(LIMIT_S)[1] == [("host", 20), ("host", 21)]


def test_waiting_for_rank_0_has_a_limit():
    with pytest.raises(PeerLost, match="rank 1 of this run is ready, but rank 0"):
        meet(dist.HashStore(), 1, 2, ("host", 11), BRIEF_S)


def test_a_process_says_what_it_lost_though_torchrun_ends_it(monkeypatch):
    """torchrun signals the others a tenth of a second after a process has ended."""
    signals: list[int] = []

    def lost(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        return PeerLost("lost rank 1")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(dist.HashStore(), 0, 2)]))
    monkeypatch.setattr(distributed, "meet", lambda store, *_: (store, []))
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(distributed, "_lost", lost)
    before = signal.signal(signal.SIGTERM, lambda signum, _: signals.append(signum))
    try:
        with pytest.raises(PeerLost, match="lost rank 1"), distributed.process_group("cpu"):
            raise RuntimeError("Connection closed by peer [127.0.0.1]:4")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signals == []
