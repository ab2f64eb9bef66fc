"""`fewshot compare`: compares two runs on the same episodes."""

from fewshot.config import CompareConfig
from fewshot.reproduction.comparison import choose_folder, compare_runs, format_summary, write
from fewshot.runtime import processes


def run(config: CompareConfig) -> None:
    """Compare two runs on identical episodes, print the differences, and write them with a figure.

    Args:
        config: the options of the subcommand.
    """
    comparison = compare_runs(config)
    if processes.is_first():
        print(format_summary(comparison))
        paths = write(comparison, config.out or choose_folder(comparison))
        print("files: " + " ".join(map(str, paths)))
