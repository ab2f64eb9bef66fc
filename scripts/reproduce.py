"""Run every recipe of a data set that has not run yet, and make one table of all methods from their records.

Interrupted, the same command goes on where it stopped; a complete run is not repeated.
"""

import argparse
import shlex
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent


def main() -> None:
    """Parse, run, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default="glyphs", help="a folder of scripts/recipes; default: glyphs")
    parser.add_argument(
        "--recipes", nargs="+", default=[], metavar="NAME", help="and those they start from; default: all of the folder"
    )
    parser.add_argument("--seed", type=int, default=0, help="of training; default: 0")
    parser.add_argument("--out", default="runs/reproduce", metavar="FOLDER", help="default: runs/reproduce")
    parser.add_argument(
        "--report", default="RESULTS.md", metavar="FILE", help="holds the table; null: print only; default: RESULTS.md"
    )
    arguments = parser.parse_args()

    # Imported here: `--help` and a mistyped option answer at once, without loading torch.
    from fewshot import cli, report
    from fewshot.reproduce import REFERENCE, find_runs, rows, run_all

    def reproduce() -> None:
        dataset = arguments.dataset
        runs = find_runs(SCRIPTS / "recipes" / dataset, Path(arguments.out), arguments.seed, arguments.recipes)
        failed = run_all(runs, SCRIPTS)
        table = rows([run for run in runs if run not in failed])
        if table:
            facts = report.comparison_facts(table, arguments.seed, f"python {shlex.join(sys.argv)}")
            text = f"{report.comparison(table, REFERENCE)}\n\n{facts}"
            print(f"\n{text}")
        if failed:
            sys.exit(f"\nfailed: {', '.join(run.name for run in failed)}; {arguments.report} is left as it was")
        if arguments.report != "null":
            report.write_section(arguments.report, f"reproduce {dataset}", f"{dataset}: all methods", text)

    cli.run(reproduce)


if __name__ == "__main__":
    main()
