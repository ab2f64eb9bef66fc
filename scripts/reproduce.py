"""Run the recipes of a data set that have not run yet, keep their results, and make the tables of all methods.

What each recipe is expected to reach is filled into its head from the same results.

Interrupted, the same command goes on where it stopped; a complete run is not repeated.
"""

import argparse
import os
import sys
from pathlib import Path

SCRIPTS = Path(os.path.relpath(Path(__file__).parent))


def main() -> None:
    """Parse, run, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default="glyphs", help="a folder of scripts/recipes; default: glyphs")
    add = parser.add_argument
    add(
        "--methods", nargs="+", default=[], metavar="NAME", help="runs or rows, and those they start from; default: all"
    )
    add("--cells", nargs="+", default=[], metavar="CELL", help="run what measures one of these, such as 5w1s 20w5s")
    add("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="of training; default: 0")
    add("--budget", type=float, metavar="MINUTES", help="stop after so long, to go on later; 0: make the tables only")
    add("--out", default="runs/reproduce", metavar="FOLDER", help="of the runs; default: runs/reproduce")
    add("--results", default="results", metavar="FOLDER", help="what is kept of each run; default: results")
    add(
        "--report", default="RESULTS.md", metavar="FILE", help="holds the tables; null: write none; default: RESULTS.md"
    )
    arguments = parser.parse_args()

    # Imported here: `--help` and a mistyped option answer at once, without loading torch.
    from fewshot import cli
    from fewshot.evaluation import report
    from fewshot.reproduction.heads import fill_expected
    from fewshot.reproduction.recipes import find_runs, measuring
    from fewshot.reproduction.runner import run_all, section

    def reproduce() -> None:
        dataset, results = arguments.dataset, Path(arguments.results) / arguments.dataset
        recipes, published = SCRIPTS / "recipes" / dataset, SCRIPTS / "published" / f"{dataset}.yaml"
        runs = measuring(find_runs(recipes, Path(arguments.out), arguments.seeds, arguments.methods), arguments.cells)
        failed = run_all(runs, SCRIPTS, results, arguments.budget)
        text = section(recipes, results, published)
        print(f"\n{text}")
        if arguments.report != "null":
            report.write_section(arguments.report, f"reproduce {dataset}", f"{dataset}: all methods", text)
            fill_expected(recipes, results)
        if failed:
            sys.exit(f"\nfailed: {', '.join(run.title for run in failed)}")

    cli.run(reproduce)


if __name__ == "__main__":
    main()
