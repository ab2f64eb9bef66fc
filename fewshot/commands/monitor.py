"""`fewshot monitor`: whether photographs have changed since a classifier was fitted."""

from fewshot.config import MonitorConfig
from fewshot.photographs.monitoring import monitor


def run(config: MonitorConfig) -> None:
    """Say whether photographs have changed; the exit status is 1 where they have, or refusals rise.

    Args:
        config: the options of the subcommand.
    """
    raise SystemExit(1 if monitor(config).is_alarm else 0)
