"""Communication between the processes of a distributed run; all of it also works in a single process."""

from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def rank() -> int:
    """Number of this process, from 0 on; 0 if there is only one."""
    return dist.get_rank() if _is_running() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _is_running() else 1


def is_first() -> bool:
    """Whether this process has rank 0: the one that writes files and prints."""
    return rank() == 0


def gather(mine: T) -> list[T]:
    """Collect the value of every process, in order of rank, on every process."""
    if world_size() == 1:
        return [mine]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


def broadcast_first(mine: T) -> T:
    """Return the value of the first process on every process."""
    if world_size() == 1:
        return mine
    box = [mine]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def any_true(flag: bool) -> bool:
    """Whether `flag` is true in any process."""
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
    """Merge items that were dealt to n processes in turn: item i is number i // n of process i % n."""
    longest = max(map(len, parts))
    return [part[i] for i in range(longest) for part in parts if i < len(part)]


def _is_running() -> bool:
    return dist.is_available() and dist.is_initialized()
