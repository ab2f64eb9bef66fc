"""Measure two runs on the same episodes: paired difference, sign test, differences class by class, a figure."""

from fewshot import cli
from fewshot.config import CompareConfig
from fewshot.reproduction.comparison import compare_runs, default_folder, summary, write
from fewshot.runtime import processes


def main() -> None:
    """Parse, measure, print, write."""
    config = cli.parse(CompareConfig, __doc__, positional=True)
    comparison = compare_runs(config)
    if processes.is_first():
        print(summary(comparison))
        paths = write(comparison, config.out or default_folder(comparison))
        print("files: " + " ".join(map(str, paths)))


if __name__ == "__main__":
    cli.run(main)
