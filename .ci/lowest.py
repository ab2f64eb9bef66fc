"""Print the lowest version that setup.cfg allows of each requirement, one `name==version` a line: pip's constraints."""

import configparser
import re
import sys
from pathlib import Path

EXTRAS = ("pretrained", "finetune", "export", "serve", "test")  # what `make test` installs


def read_lowest(setup_cfg: Path) -> dict[str, str]:
    """The lowest version of each requirement by its name; `ValueError` for one that states none."""
    config = configparser.ConfigParser()
    config.read(setup_cfg)
    extras = config["options.extras_require"]
    stated = "\n".join([config["options"]["install_requires"], *(extras[name] for name in EXTRAS)])
    lowest = {}
    for requirement in filter(None, map(str.strip, stated.splitlines())):
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"{setup_cfg}: {requirement!r} does not read name>=version")
        if lowest.setdefault(match[1], match[2]) != match[2]:
            raise ValueError(f"{setup_cfg}: {match[1]} has two lowest versions, {lowest[match[1]]} and {match[2]}")
    return lowest


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "setup.cfg"
    print("\n".join(f"{name}=={version}" for name, version in read_lowest(path).items()))
