"""Invented headers of records."""

from typing import Any

from fewshot.evaluation.record_header import RecordHeader


def made_up_header(n_episodes: int = 1, **changes: Any) -> RecordHeader:
    """A header of 5-way 1-shot episodes of Omniglot, with `changes`."""
    usual = {
        "spec": {"n_way": 5, "n_shot": 1, "n_query": 15}, "seed": 0, "method": "Prototypical", "transductive": False,
        "dataset": "omniglot", "split": "test", "data_fingerprint": "abc", "weights": "w0", "precision": "float32",
        "seconds": 1.0, "commit": "def", "command": "python x.py", "hardware": "a CPU, 8 CPU cores",
        "versions": {"torch": "2.0", "python": "3.12"}, "selected_on": "val",
    }  # fmt: skip
    return RecordHeader(**{**usual, "n_episodes": n_episodes, **changes})
