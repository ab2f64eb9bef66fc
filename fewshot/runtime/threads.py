"""How threads of one computation wait for each other."""

import os

WAITING = "OMP_WAIT_POLICY"


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment says otherwise.

    By default they spin, which on a machine with other work takes the time that the awaited thread needs
    (docs/speed.md). It takes effect only before torch is imported.
    """
    os.environ.setdefault(WAITING, "PASSIVE")
