"""`fewshot benchmark`, for who has the repository and has not installed the command."""

import sys

from fewshot.commands import main

if __name__ == "__main__":
    main(["benchmark", *sys.argv[1:]])
