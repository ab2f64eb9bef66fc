"""Set where the repository is published: python docs/address.py https://github.com/OWNER/NAME.

The setting is `url` of setup.cfg; the site, its links to files and its button read it. The notebooks are opened alone,
so their Colab badge and the cell that installs the package are written into them; CITATION.cff has it too. Without an
address there is neither, since a badge would lead nowhere and an installation would run whatever stands at a guessed
address.
"""

import json
import re
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
ADDRESS = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)/?")
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
WITHOUT = [
    'if importlib.util.find_spec("fewshot") is None:\n',
    "    raise ModuleNotFoundError(\"install fewshot first: pip install '.[notebooks]' in a clone of it\")",
]


def read_address(root: Path = ROOT) -> str:
    """Read `url` of setup.cfg, '' where there is none."""
    config = ConfigParser()
    config.read(root / "setup.cfg", encoding="utf-8")
    return config["metadata"].get("url", "")


def set_address(address: str, root: Path = ROOT) -> None:
    """Write `address` ('': none) to setup.cfg, CITATION.cff and the notebooks."""
    if address and not (found := ADDRESS.fullmatch(address)):
        raise SystemExit(f"{address} is no address of a repository: give https://github.com/OWNER/NAME")
    place = found[1] if address else ""
    address = f"https://github.com/{place}" if place else ""
    replace_line(root / "setup.cfg", r"url = .*\n", f"url = {address}\n", after=r"license = MIT\n")
    replace_line(root / "CITATION.cff", r"repository-code: .*\n", f"repository-code: {address}\n", after=r"license: MIT\n")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        title, install = notebook["cells"][0], next(c for c in notebook["cells"] if c["cell_type"] == "code")
        target = f"(https://colab.research.google.com/github/{place}/blob/main/notebooks/{path.name})\n"
        rest = [line for line in title["source"][1:] if not line.startswith("[![Open in Colab]")]
        badge = ["\n", f"{BADGE}{target}"] if place else []
        title["source"] = [title["source"][0], *badge, "\n", *rest[next(n for n, line in enumerate(rest) if line.strip()) :]]
        install["source"] = make_installation(address, "pretrained" in notebook["metadata"].get("fewshot_extras", ""))
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def replace_line(path: Path, pattern: str, line: str, after: str) -> None:
    """Replace the line of a file that matches `pattern` by `line`, or put it after another; remove it if it says nothing."""
    text = re.sub(f"^{pattern}", "", path.read_text(encoding="utf-8"), flags=re.M)
    if not line.rstrip().endswith(("=", ":")):
        text, count = re.subn(f"^{after}", lambda match: match[0] + line, text, flags=re.M)
        assert count == 1, (path, after)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    set_address(*sys.argv[1:])
