"""`fewshot summarize`: finished runs in one table, by what differs between them."""

from pathlib import Path

from fewshot.config.reproduction import SummarizeConfig
from fewshot.reproduction.summaries import check_summary, format_summary, read_sources, summarize, write_summary


def run(config: SummarizeConfig) -> None:
    """Put the test results of runs into one table: means over seeds, and paired differences.

    Args:
        config: the options of the subcommand.
    """
    check_summary(config.out)
    summary = summarize(read_sources(config.runs, config.rows), config.cells, config.against)
    if config.out:
        write_summary(summary, Path(config.out))
        print(f"file: {config.out}")
    else:
        print(format_summary(summary, config.format))
