"""Your own photographs: fit a classifier to a folder, ask it about others, or check a folder first.

usage: python scripts/classify.py check|fit|predict OPTIONS, for instance

    python scripts/classify.py check --support my_coins/ --html check.html
    python scripts/classify.py fit --support my_coins/ --out coins.fewshot
    python scripts/classify.py predict photos/ --model coins.fewshot --csv out.csv --html report.html

--help after the first word lists its options.
"""

import sys

from fewshot import cli
from fewshot.config import CheckPhotographsConfig, FitPhotographsConfig, PredictPhotographsConfig
from fewshot.registry import unknown_name

COMMANDS = {"check": CheckPhotographsConfig, "fit": FitPhotographsConfig, "predict": PredictPhotographsConfig}


def main() -> None:
    """Parse, then hand over."""
    word, *rest = sys.argv[1:] or ["--help"]
    if word in ("-h", "--help"):
        print(__doc__)
        return
    if word not in COMMANDS:
        raise unknown_name("command", word, COMMANDS)
    config = cli.parse(COMMANDS[word], f"{word}: {COMMANDS[word].__doc__}", rest, positional=word == "predict")
    from fewshot.photographs import commands

    {"check": commands.check_support, "fit": commands.fit_folder, "predict": commands.predict_folder}[word](config)


if __name__ == "__main__":
    cli.run(main)
