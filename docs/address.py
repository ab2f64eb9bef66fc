"""Set where the repository is published: python docs/address.py https://github.com/OWNER/NAME.

The setting is `url` of setup.cfg, which the site reads. Notebooks are opened alone, so their Colab badge and the
address that they install from are written into them, and CITATION.cff has it too. Without an address there is none of
these: a badge would lead nowhere, and an installation would run whatever stands at a guessed address.
"""

import json
import re
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"


def read_address(root: Path = ROOT) -> str:
    """Read `url` of setup.cfg, '' where there is none."""
    config = ConfigParser()
    config.read(root / "setup.cfg", encoding="utf-8")
    return config["metadata"].get("url", "")


def set_address(address: str, root: Path = ROOT) -> None:
    """Write `address` ('': none) to setup.cfg, CITATION.cff and the notebooks."""
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise SystemExit(f"{address} is no address of a repository: give https://github.com/OWNER/NAME")
    write_line(root / "setup.cfg", "license = MIT\n", "url = ", address)
    write_line(root / "CITATION.cff", "license: MIT\n", "repository-code: ", address)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        title = notebook["cells"][0]
        lines = [line for line in title["source"] if not line.startswith(BADGE)]
        text = "".join(lines[1:]).lstrip("\n")
        colab = address.replace("https://github.com/", "https://colab.research.google.com/github/")
        badge = f"\n{BADGE}({colab}/blob/main/notebooks/{path.name})\n" if address else ""
        title["source"] = f"{lines[0]}{badge}\n{text}".splitlines(keepends=True)
        install = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
        install["source"] = [re.sub(r'^ADDRESS = "[^"]*"', f'ADDRESS = "{address}"', s) for s in install["source"]]
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_line(path: Path, after: str, key: str, value: str) -> None:
    """Write `key` and `value` as the line that follows `after`, instead of the one there was; none without a value."""
    text = re.sub(f"^{key}.*\n", "", path.read_text(encoding="utf-8"), flags=re.M)
    if text.count(after) != 1:
        raise SystemExit(f"{path} has no line {after.strip()!r}")
    path.write_text(text.replace(after, f"{after}{key}{value}\n" if value else after), encoding="utf-8")


if __name__ == "__main__":
    set_address(*sys.argv[1:])
