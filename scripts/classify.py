"""Your own photographs: check a folder, fit a classifier to it, and classify other photographs.

usage: python scripts/classify.py check|fit|predict OPTIONS, for instance

    python scripts/classify.py check --support my_coins/ --html check.html
    python scripts/classify.py fit --support my_coins/ --out coins.fewshot
    python scripts/classify.py predict photos/ --model coins.fewshot --csv out.csv --html report.html

--help after the first word lists its options.
"""

import sys

from fewshot.commands import main

if __name__ == "__main__":
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(__doc__)
        raise SystemExit(0)
    main(sys.argv[1:], among=("check", "fit", "predict"))
