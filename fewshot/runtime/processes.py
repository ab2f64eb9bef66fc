"""Several processes: who am I, and collecting what each of them made. One process needs no set-up."""

from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def rank() -> int:
    """Number of this process, 0 where there is one."""
    return dist.get_rank() if _is_running() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _is_running() else 1


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def gather(mine: T) -> list[T]:
    """What every process gave, in order of rank, on every process."""
    if world_size() == 1:
        return [mine]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


def broadcast_first(mine: T) -> T:
    """What the first process gave, on every process."""
    if world_size() == 1:
        return mine
    box = [mine]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def any_true(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return any(gather(flag))


def barrier() -> None:
    """Wait for every process."""
    if world_size() > 1:
        dist.barrier()


def leave() -> None:
    """Leave the group of processes at the end of a command: some backends warn of processes that just exit."""
    if _is_running():
        dist.destroy_process_group()


def interleave(parts: list[list[T]]) -> list[T]:
    """Undo a deal of items to processes in turn: item i came from process i % n, as its i // n-th."""
    longest = max(map(len, parts))
    return [part[i] for i in range(longest) for part in parts if i < len(part)]


def _is_running() -> bool:
    return dist.is_available() and dist.is_initialized()
