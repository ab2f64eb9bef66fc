"""Joins the pictures of concurrent requests, which are then encoded in one call."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from fewshot.errors import FewShotError


class BusyError(FewShotError):
    """More pictures wait than a server keeps."""


class Batcher:
    """Answers about pictures, those of several requests together.

    A picture's answer does not depend on those beside it: `Predictor.encode` sees to that.

    Args:
        answer: gives n answers to pixels (n, channels, size_px, size_px); runs in a thread, one call at a time.
        most_pictures: of one call, unless one request has more.
        most_waiting: pictures that wait; beyond it `ask` raises `BusyError`.
    """

    def __init__(self, answer: Callable[[np.ndarray], list[Any]], most_pictures: int, most_waiting: int) -> None:
        self.answer, self.most_pictures, self.most_waiting = answer, most_pictures, most_waiting
        self._waiting: deque[tuple[np.ndarray, asyncio.Future[list[Any]]]] = deque()
        self._arrived = asyncio.Event()

    def count_waiting(self) -> int:
        """How many pictures wait."""
        return sum(len(pixels) for pixels, _ in self._waiting)

    async def ask(self, pixels: np.ndarray) -> list[Any]:
        """The answers to pixels (n, channels, size_px, size_px), in their order."""
        if self._waiting and self.count_waiting() + len(pixels) > self.most_waiting:
            raise BusyError(f"{self.count_waiting()} pictures wait already: try again")
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((pixels, future))
        self._arrived.set()
        return await future

    async def run(self) -> None:
        """Answer what arrives, until it is cancelled."""
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                self._arrived.clear()
                continue
            try:
                answers = await asyncio.to_thread(self.answer, np.concatenate([pixels for pixels, _ in batch]))
            except Exception as error:  # of any kind: those who wait are told, and the next are answered
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for pixels, future in batch:
                mine, answers = answers[: len(pixels)], answers[len(pixels) :]
                if not future.done():
                    future.set_result(mine)

    def _take(self) -> list[tuple[np.ndarray, asyncio.Future[list[Any]]]]:
        """The next requests that fit into one call; those whose client has gone are dropped."""
        batch: list[tuple[np.ndarray, asyncio.Future[list[Any]]]] = []
        n_pictures = 0
        while self._waiting:
            pixels, future = self._waiting[0]
            if batch and n_pictures + len(pixels) > self.most_pictures:
                break
            self._waiting.popleft()
            if not future.done():
                batch.append((pixels, future))
                n_pictures += len(pixels)
        return batch
