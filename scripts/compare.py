"""`fewshot compare`, for users of the repository who have not installed the command."""

import sys

from fewshot.commands import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
