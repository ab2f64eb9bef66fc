"""Draw all methods of a data set: accuracy against shots, against ways, and against minutes of training.

What is drawn is kept beside the figures; the same command without runs draws them again from there.
"""

import argparse
import os
from pathlib import Path

SCRIPTS = Path(os.path.relpath(Path(__file__).parent))


def main() -> None:
    """Parse, measure, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default="glyphs", help="a folder of scripts/recipes; default: glyphs")
    add = parser.add_argument
    add(
        "--methods", nargs="+", default=[], metavar="NAME", help="to measure; default: recipes called like their method"
    )
    add("--episodes", type=int, default=600, metavar="N", help="of each point; default: 600")
    add("--slow_episodes", type=int, default=300, metavar="N", help="where each runs the network; default: 300")
    add("--out", default="runs/reproduce", metavar="FOLDER", help="of the runs; default: runs/reproduce")
    add("--results", default="results", metavar="FOLDER", help="of what is kept and drawn; default: results")
    arguments = parser.parse_args()

    # Imported here: `--help` and a mistyped option answer at once, without loading torch.
    from fewshot import cli
    from fewshot.reproduction.figures import chosen, make_figures, measure_curves, seeds_of
    from fewshot.reproduction.recipes import find_runs

    def figures() -> None:
        dataset, results = arguments.dataset, Path(arguments.results) / arguments.dataset
        recipes, out = SCRIPTS / "recipes" / dataset, Path(arguments.out)
        runs = find_runs(recipes, out, seeds_of(out / dataset))
        measured = chosen(runs, arguments.methods)
        measure_curves(measured, results, arguments.episodes, arguments.slow_episodes)
        usual = chosen(runs)
        shown = [run for run in runs if run in usual or run in measured]
        print("figures: " + (" ".join(map(str, make_figures(results, runs, shown))) or "none, there are no results"))

    cli.run(figures)


if __name__ == "__main__":
    main()
