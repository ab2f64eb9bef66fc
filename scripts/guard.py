"""Train every recipe of glyphs for seconds and compare it with its floor; exit status 1 where one falls below.

With --calibrate the floors are made anew: mean less four standard deviations over training seeds, on validation
classes. Floors that move are announced in CHANGELOG.md.
"""

import argparse
import tempfile
from pathlib import Path

SCRIPTS = Path(__file__).parent
RECIPES, CONFIG, FLOORS = SCRIPTS / "recipes" / "glyphs", SCRIPTS / "guard.yaml", SCRIPTS / "guard_floors.json"


def main() -> None:
    """Parse, train, compare or calibrate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recipes", nargs="+", default=[], metavar="NAME", help="and those they start from; default: all of the folder"
    )
    parser.add_argument("--seed", type=int, default=5, help="of training, when comparing; default: 5, no floor's seed")
    parser.add_argument("--calibrate", action="store_true", help="write the floors instead of comparing with them")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of training, when calibrating; default: 0 to 4"
    )
    arguments = parser.parse_args()

    # Imported here: `--help` and a mistyped option answer at once, without loading torch.
    from fewshot import cli
    from fewshot.reproduction import guard

    def guarded() -> None:
        config = guard.read_config(CONFIG)
        seeds = arguments.seeds if arguments.calibrate else [arguments.seed]
        with tempfile.TemporaryDirectory(prefix="fewshot-guard-") as folder:
            runs = guard.short_runs(RECIPES, Path(folder), config, seeds, arguments.recipes)
            if arguments.calibrate:
                guard.calibrate(runs, FLOORS, config)
            elif guard.compare(runs, FLOORS, config):
                raise SystemExit(1)

    cli.run(guarded)


if __name__ == "__main__":
    main()
