"""`fewshot data`, for users of the repository who have not installed the command."""

import sys

from fewshot.commands import main

if __name__ == "__main__":
    main(["data", *sys.argv[1:]])
