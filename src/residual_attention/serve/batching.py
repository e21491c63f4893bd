"""Images of many requests, run through the network together; one thread owns the network."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

Answer = TypeVar("Answer")
T = TypeVar("T")


class Overloaded(Exception):
    """As many images wait as may."""


@dataclass
class Batching(Generic[Answer]):
    """Collects images (C, S, S) and answers up to ``size`` together; fewer, once ``wait_s`` has passed since the first.

    ``answer`` maps (B, C, S, S) to B answers. It runs in one thread, as does everything given to `alone`; so the
    network needs no lock. At most ``waiting`` images wait.
    """

    answer: Callable[[Tensor], list[Answer]]
    size: int = 16
    wait_s: float = 0.005
    waiting: int = 256
    batches: int = 0
    images: int = 0
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Tensor, asyncio.Future[Answer]]] = asyncio.Queue(self.waiting)

    async def ask(self, image: Tensor) -> Answer:
        """The answer to one image. Raises Overloaded when the queue is full, or what ``answer`` raises."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((image, future))
        except asyncio.QueueFull:
            raise Overloaded from None
        return await future

    async def alone(self, call: Callable[[], T]) -> T:
        """Run a call in the network's thread, between batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def run(self) -> None:
        """Answer until cancelled."""
        try:
            while True:
                await self._answer(await self._collect())
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _collect(self) -> list[tuple[Tensor, asyncio.Future[Answer]]]:
        found = [await self._queue.get()]
        if self._queue.qsize() < self.size - 1:
            await asyncio.sleep(self.wait_s)
        while len(found) < self.size and not self._queue.empty():
            found.append(self._queue.get_nowait())
        return [(image, future) for image, future in found if not future.done()]  # a client may have gone

    async def _answer(self, found: list[tuple[Tensor, asyncio.Future[Answer]]]) -> None:
        if not found:
            return
        self.batches, self.images = self.batches + 1, self.images + len(found)
        try:
            answers = await self.alone(lambda: self.answer(torch.stack([image for image, _ in found])))
        except Exception as error:
            for _, future in found:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(found, answers, strict=True):
            if not future.done():
                future.set_result(answer)
