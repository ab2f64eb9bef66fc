"""`fewshot figures` with the recipes of this folder, for users who have not installed the command."""

import sys
from pathlib import Path

from fewshot.commands import main

if __name__ == "__main__":
    main(["figures", "--recipes", str(Path(__file__).parent / "recipes"), *sys.argv[1:]])
