"""`python -m fewshot` is the command `fewshot`."""

from fewshot.commands import main

if __name__ == "__main__":
    main()
