"""The processes of one run: those that torchrun started, or a single one."""

import datetime
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ..errors import UserError
from .interrupt import SignalWatch
from .meeting import Address, PeerLost, meet

TIME_LIMIT_S = 900  # for one collective: longer than any evaluation's share or drawing that others wait for
PATIENCE_S = 3.0


@dataclass(frozen=True)
class Processes:
    """This process's ``rank`` among ``world`` processes; only rank 0 writes and prints."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def largest(self, value: int) -> int:
        """The largest value over all processes, the same on each; used to agree on a stop."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor.item())

    def total(self, values: list[float]) -> list[float]:
        """Elementwise sums over the processes."""
        if self.world == 1:
            return values
        on_gpu = dist.get_backend() == "nccl"
        tensor = torch.tensor(values, dtype=torch.float64, device="cuda" if on_gpu else "cpu")
        dist.all_reduce(tensor)
        return tensor.tolist()

    def union(self, values: set[int]) -> set[int]:
        """The union of all processes' sets."""
        if self.world == 1:
            return values
        everyone: list = [None] * self.world
        dist.all_gather_object(everyone, values)
        return set().union(*everyone)

    def same_buffers(self, model: torch.nn.Module) -> None:
        """Broadcast rank 0's BN statistics, which are the ones saved."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def from_main(self, value: object) -> object:
        """Rank 0's value, on every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()


def _address() -> Address:
    """This process's host and number."""
    return socket.gethostname(), os.getpid()


def _has_ended(host: str, pid: int) -> bool:
    """Whether a process of this machine has ended; False for another machine's, which cannot be asked."""
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except PermissionError:
        return False
    except OSError:  # no such process; or no /proc, and it lives
        return Path("/proc").is_dir()


def _lost(error: Exception, peers: list[Address]) -> PeerLost:
    """What is known about the process that no longer answers: its rank if it ran here, or else its address."""
    deadline = time.monotonic() + PATIENCE_S  # the connection closes before the process is gone
    ended: list[int] = []
    while not ended and time.monotonic() < deadline:
        ended = [rank for rank, (host, pid) in enumerate(peers) if _has_ended(host, pid)]
        time.sleep(0.05)
    named = " and ".join(f"rank {rank} (process {peers[rank][1]} on {peers[rank][0]})" for rank in ended)
    if not named and (found := re.search(r"peer \[?([\w.:-]+?)\]?:\d+", str(error))):
        named = f"a process at {found[1]}"
    reason = "has ended" if ended else f"has not answered (limit {TIME_LIMIT_S // 60} min)"
    return PeerLost(
        f"lost another process of this run: {named or 'one'} {reason}; the last checkpoint is intact: start again with "
        "`--resume auto`, or resume with `ran resume`"
    )


def _is_lost_peer(error: Exception) -> bool:
    """Whether a collective failed because a peer is gone; gloo raises a plain RuntimeError."""
    words = ("peer", "Connection", "timed out", "Timed out", "Timeout", "unhealthy", "gloo")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


@contextmanager
def process_group(device_type: str) -> Iterator[Processes]:
    """Join the processes that torchrun started (NCCL on CUDA, gloo elsewhere) and leave them at the end.

    Raises PeerLost if one of them ends, or does not start or answer within `TIME_LIMIT_S`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
    backend, limit = "nccl" if device_type == "cuda" else "gloo", datetime.timedelta(seconds=TIME_LIMIT_S)
    peers: list[Address] = []
    try:
        shared, rank, world = next(rendezvous("env://", timeout=limit))
        store, peers = meet(shared, rank, world, _address(), TIME_LIMIT_S)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
        yield Processes(rank, world, local_rank)
    except UserError:
        raise
    except RuntimeError as error:
        if not _is_lost_peer(error):
            raise
        with SignalWatch():  # torchrun ends what is left of a run; first we say which process it lost
            lost = _lost(error, peers)
            _leave()
        raise lost from error
    finally:
        _leave()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
