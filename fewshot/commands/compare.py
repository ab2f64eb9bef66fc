"""`fewshot compare`: two runs on the same episodes, or two classifiers on the same photographs."""

from pathlib import Path

from fewshot.config import CompareConfig
from fewshot.reproduction.comparison import choose_folder, compare_runs, format_summary, write
from fewshot.reproduction.comparison.classifiers import compare_classifiers, format_classifiers
from fewshot.runtime import processes
from fewshot.runtime.files import check_writable


def run(config: CompareConfig) -> None:
    """Compare two runs on identical episodes, print the differences, and write them with a figure.

    With photographs, compare two classifiers on them; the exit status is 1 where the second is significantly worse.

    Args:
        config: the options of the subcommand.
    """
    if config.photos is not None:
        compared = compare_classifiers(config.run_a, config.run_b, config.photos, config.groups)
        print(format_classifiers(compared))
        raise SystemExit(1 if compared.is_worse else 0)
    check_writable(Path(config.out or f"{config.run_a}/compare") / "comparison.json")
    comparison = compare_runs(config)
    if processes.is_first():
        print(format_summary(comparison))
        paths = write(comparison, config.out or choose_folder(comparison))
        print("files: " + " ".join(map(str, paths)))
