"""`fewshot review`: what `check`, `suggest` and maps tell, measured where the truth is known."""

from pathlib import Path

from fewshot.config.reproduction import ReviewConfig
from fewshot.reproduction.photographs.runner import measure, write_tables


def run(config: ReviewConfig) -> None:
    """Measure suspects, suggestions and regions, and write their tables.

    Args:
        config: the options of the subcommand.
    """
    if config.n_repetitions:
        measure(config.only, config.n_repetitions, Path(config.results), config.data_root)
    if config.report is not None:
        write_tables(Path(config.results), config.report)
