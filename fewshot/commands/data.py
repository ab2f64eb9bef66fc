"""`fewshot data`: checks the data sets on disk, fetches those that need no login, and shows and clears the cache."""

from datetime import datetime

from fewshot.config.reproduction import DataConfig
from fewshot.datasets.download import get_data
from fewshot.datasets.loading import find_data_root
from fewshot.datasets.sources import NEEDS
from fewshot.images.cache import clear_cache, list_kept
from fewshot.images.store import find_cache_dir
from fewshot.runtime.counts import format_count


def run(config: DataConfig) -> None:
    """Check the files of a data set, and fetch what is missing; exit status 1 where not all is as published.

    With the options of the cache, show or clear that instead.

    Args:
        config: the options of the subcommand.
    """
    if config.cache or config.clear_cache is not None:
        _show_cache(config.clear_cache)
        return
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


def _show_cache(days: float | None) -> None:
    """Print what the cache holds, or remove and print what was not used for `days`."""
    shown, n_bytes = 0, 0
    for kept, reason in ((kept, "") for kept in list_kept()) if days is None else clear_cache(days):
        used = datetime.fromtimestamp(kept.used).strftime("%Y-%m-%d")
        print(f"{kept.n_bytes / 1e6:10,.1f} MB  last used {used}  {kept.path}{f'  stays: {reason}' if reason else ''}")
        shown, n_bytes = (shown, n_bytes) if reason else (shown + 1, n_bytes + kept.n_bytes)
    told = "" if days is None else f" removed, unused for {days:g} days"
    print(f"{format_count(shown, 'entry', 'entries')} in {find_cache_dir()}{told}: {n_bytes / 1e6:,.1f} MB")
