"""How the processes of a run find each other, at every attempt anew.

torchrun keeps its store when it restarts processes, and with it the addresses at which their predecessors listened. A
process that reads one of those fails to connect, or waits for a process that has ended. TORCHELASTIC_RESTART_COUNT does
not tell attempts apart: a node that comes back counts from 0, and a node that joins is not counted. So each attempt
gets its own part of the store, under a name that its rank 0 draws.
"""

import json
import time
import uuid

from torch.distributed import PrefixStore, Store

from ..errors import UserError

POLL_S = 0.1

Address = tuple[str, int]  # host and process number


class PeerLost(UserError):
    """Another process of the run ended or no longer answers."""


def meet(store: Store, rank: int, world: int, address: Address, limit_s: float) -> tuple[Store, list[Address]]:
    """This attempt's part of ``store``, and the addresses of its processes by rank.

    Raises PeerLost if not all have come within ``limit_s``.
    """
    attempts = PrefixStore("attempts", store)
    deadline = time.monotonic() + limit_s
    name = _open(attempts, world, address, deadline) if rank == 0 else _enter(attempts, rank, address, deadline)
    addresses = [(str(host), int(pid)) for host, pid in json.loads(attempts.get(f"{name}/complete"))]
    return PrefixStore(name, store), addresses


def _open(attempts: Store, world: int, address: Address, deadline: float) -> str:
    """Rank 0 announces a new attempt and completes it once all are in it."""
    name = uuid.uuid4().hex
    attempts.set(f"{name}/0", json.dumps(address))
    attempts.set("newest", name)
    while missing := [rank for rank in range(world) if not attempts.check([f"{name}/{rank}"])]:
        if time.monotonic() > deadline:
            raise PeerLost(
                f"{len(missing)} of the {world} processes of this run did not start in time: rank "
                f"{', '.join(map(str, missing))}; look at what they print, then start all of them again"
            )
        time.sleep(POLL_S)
    entered = [json.loads(attempts.get(f"{name}/{rank}")) for rank in range(world)]
    attempts.set(f"{name}/complete", json.dumps(entered))
    return name


def _enter(attempts: Store, rank: int, address: Address, deadline: float) -> str:
    """The other ranks enter the newest attempt until one that they are in is complete.

    Never an earlier one: it lacks this rank, and its rank 0 has ended, so it stays incomplete; or it has this rank's
    predecessor, whose place is not taken again.
    """
    entered = None
    while entered is None or not attempts.check([f"{entered}/complete"]):
        if time.monotonic() > deadline:
            raise PeerLost(
                f"rank {rank} of this run is ready, but rank 0, or a rank that it waits for, did not start in time; "
                "look at what they print, then start all of them again"
            )
        newest = attempts.get("newest").decode() if attempts.check(["newest"]) else None
        if newest not in (None, entered) and not attempts.check([f"{newest}/{rank}"]):
            attempts.set(f"{newest}/{rank}", json.dumps(address))
            entered = newest
        else:
            time.sleep(POLL_S)
    return entered
