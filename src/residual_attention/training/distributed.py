"""The processes of one run: those that torchrun started, or a single one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


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


@contextmanager
def process_group(device_type: str) -> Iterator[Processes]:
    """Join the processes that torchrun started (NCCL on CUDA, gloo elsewhere) and leave them at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), local_rank)
    finally:
        dist.destroy_process_group()
