"""Measure two runs on the same episodes: paired difference, sign test, differences class by class, a figure."""

from fewshot import cli, parallel
from fewshot.comparison import compare_runs, default_folder, summary, write
from fewshot.config import CompareConfig


def main() -> None:
    """Parse, measure, print, write."""
    config = cli.parse(CompareConfig, __doc__, positional=True)
    comparison = compare_runs(config)
    if parallel.is_first():
        print(summary(comparison))
        paths = write(comparison, config.out or default_folder(comparison))
        print("files: " + " ".join(map(str, paths)))


if __name__ == "__main__":
    cli.run(main)
