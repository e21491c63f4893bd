"""Worker processes that decode files: their start, the keys they get, what they return, the cores they take."""

import atexit
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

Item = tuple[Tensor | str, Tensor, int]  # image or why there is none, label () or (K,), index


def collate(items: list[Item]) -> tuple[Tensor, Tensor, Tensor, list[tuple[int, str]]]:
    """Images, labels and indices of the readable samples, and (index, error) of the others."""
    good = [(image, label, index) for image, label, index in items if isinstance(image, Tensor)]
    bad = [(index, image) for image, _, index in items if isinstance(image, str)]
    images = torch.stack([item[0] for item in good]) if good else torch.empty(0)
    labels = torch.stack([item[1] for item in good]) if good else torch.empty(0, dtype=torch.int64)
    indices = torch.tensor([item[2] for item in good], dtype=torch.int64)
    return images, labels, indices, bad


def prepare_worker(_worker: int) -> None:
    """One thread each; a signal to the process group is the main process's to answer, which ends its workers."""
    torch.set_num_threads(1)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)


@dataclass
class BatchKeys:
    """The keys of each batch; a loader whose workers stay reads those that stand here when it is iterated."""

    batches: list[list] = field(default_factory=list)

    def __iter__(self) -> Iterator[list]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


_RUNNING: weakref.WeakSet[Any] = weakref.WeakSet()  # iterators, whose workers run as long as they are referenced
_WORKERS: weakref.WeakSet[Any] = weakref.WeakSet()  # processes; multiprocessing references those that run


@contextmanager
def workers_end() -> Iterator[None]:
    """Workers that start within this context end with it.

    If an iterator is left to the garbage collector, its queues may be finalised first, and its workers wait for ever.
    """
    others = set(_RUNNING)
    try:
        yield
    finally:
        for iterator in set(_RUNNING) - others:
            iterator._shutdown_workers()


@atexit.register
def _stop_workers() -> None:
    """Before multiprocessing's own exit handler, which would wait for ever: workers ignore its signal."""
    for iterator in list(_RUNNING):
        iterator._shutdown_workers()
    for process in list(_WORKERS):
        if process.is_alive():
            process.kill()


class FileLoader(DataLoader):
    """A `DataLoader` whose workers do not outlive the program, even when an iteration was given up."""

    def _get_iterator(self) -> Any:
        iterator: Any = super()._get_iterator()
        if self.num_workers:
            _RUNNING.add(iterator)
            _WORKERS.update(iterator._workers)
        return iterator


def file_loader(
    files: TorchDataset, keys: BatchKeys, workers: int, device: torch.device, *, workers_stay: bool = False
) -> DataLoader:
    return FileLoader(
        files,
        batch_sampler=keys,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        worker_init_fn=prepare_worker,
        prefetch_factor=4 if workers else None,
        persistent_workers=workers_stay and workers > 0,
    )


@contextmanager
def single_threaded(enabled: bool) -> Iterator[None]:
    """One thread for elementwise work, for when workers keep every core busy.

    A second thread would wait for a core, and the first for the second: 17 times as long on two cores.
    """
    threads = torch.get_num_threads()
    if enabled:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if enabled:
            torch.set_num_threads(threads)
