"""`fewshot data`: checks the data sets on disk, and fetches those that need no login."""

from fewshot.config.reproduction import DataConfig
from fewshot.datasets.download import get_data
from fewshot.datasets.loading import find_data_root
from fewshot.datasets.sources import NEEDS


def run(config: DataConfig) -> None:
    """Check the files of a data set, and fetch what is missing; exit status 1 where not all is as published.

    Args:
        config: the options of the subcommand.
    """
    names = config.dataset
    if not set(names) <= NEEDS.keys():
        from fewshot.datasets import list_datasets  # imports torch

        without = [name for name in names if name not in NEEDS and name in list_datasets()]
        for name in without:
            print(f"{name}\n  ok       nothing to fetch: it is generated, or read from the place that its options name")
        names = [name for name in names if name not in without]
        if not names:
            return
    if not get_data(NEEDS, names, find_data_root(config.root), config.verify_only):
        raise SystemExit(1)
