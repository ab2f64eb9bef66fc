"""What the site holds beside the files of docs/: pages made from the code, and files that lie elsewhere.

`methods.md`, `api.md` and `commands.md` are made from the registry, the public names and the declared commands;
RESULTS, CHANGELOG, CONTRIBUTING, data/README, the notebooks and the figures of results/ are taken from where they lie.
Links are written as GitHub follows them; those that leave the site lead to the repository, or stay words where
docs/address.py has set none.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from address import read_address
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

import fewshot
from fewshot.commands.declarations import COMMANDS, GROUPS
from fewshot.methods import METHODS, Method
from fewshot.registry import unwrap

ROOT = Path(__file__).parents[1]
FAMILIES = {
    "episodic": "compares queries with the support set, and is trained on episodes;",
    "adapted": "takes gradient steps on each support set;",
    "two-stage": "a head for each episode on a network that was trained as a plain classifier.",
}
PAGES = {
    "RESULTS.md": "results/index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/README.md": "data.md",
    "README.md": "index.md",
}  # where files of the repository stand in the site; README's own words are those of docs/index.md
LINK = re.compile(r"(?<!`)(!?\[[^\]]*\]\()([^)\s#]+)?(#[^)\s]*)?(\))")
CELL, SENTENCE = re.compile(r"<td([^>]*)>(.*?)</td>", re.S), 60  # characters from which a cell holds a sentence
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.M | re.S)


def on_config(config: Any) -> Any:
    """Set the repository's address; put the pages of results into the navigation, as RESULTS.md orders them."""
    if address := read_address():
        config.repo_url, config.repo_name = address, "fewshot"
    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    pages = dict.fromkeys(re.findall(r"\[([^\]]+)\]\(docs/(results/\w+\.md)\)", text))
    section = next(part["Results"] for part in config.nav if "Results" in part)
    section[1:1] = [{title[0].upper() + title[1:]: page} for title, page in pages]
    return config


@event_priority(100)  # before the plugin that looks for notebooks
def on_files(files: Files, config: Any) -> Files:
    """Add what is not in docs/."""
    for source, page in PAGES.items():
        if source != "README.md":
            files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for path in [*(ROOT / "results").rglob("*.svg"), *(ROOT / "notebooks").glob("*.ipynb")]:
        files.append(File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls))
    made = {"methods.md": make_methods(), "api.md": make_api(), "commands.md": make_commands()}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links from where GitHub follows them to where the site has what they mean."""
    sources = {page: source for source, page in PAGES.items() if page != "index.md"}
    here = ROOT / sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def lead(match: re.Match[str]) -> str:
        begin, target, anchor, end = match.groups()
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        found = Path(os.path.normpath(here.parent / target))
        if not found.is_relative_to(ROOT):
            raise PluginError(f"{here}: {target} leads out of the repository")
        place = find_place(found.relative_to(ROOT).as_posix())
        if place is None:
            if not found.exists():
                if here.is_relative_to(ROOT / "docs"):
                    return match[0]  # a page that is made: mkdocs says whether there is one
                raise PluginError(f"{here}: there is no {target}")
            if not config.repo_url:
                return begin.removeprefix("[").removesuffix("](")
            kind = "tree" if found.is_dir() else "blob"
            return f"{begin}{config.repo_url.rstrip('/')}/{kind}/main/{found.relative_to(ROOT)}{anchor or ''}{end}"
        return f"{begin}{os.path.relpath(place, Path(page.file.src_uri).parent)}{anchor or ''}{end}"

    text = "".join(part if part.startswith("`") else LINK.sub(lead, part) for part in CODE.split(markdown))
    return text.replace(" ± ", "\u00a0±\u00a0")  # no number parts from its interval


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Mark the cells of tables that hold sentences, so that docs/style.css can keep them from becoming narrow."""

    def mark(match: re.Match[str]) -> str:
        words = re.sub(r"<[^>]+>", "", match[2])
        return f'<td class="sentence"{match[1]}>{match[2]}</td>' if len(words) > SENTENCE else match[0]

    return CELL.sub(mark, html)


def find_place(source: str) -> str | None:
    """Where a file of the repository stands in the site; None where it does not."""
    if source in PAGES:
        return PAGES[source]
    if source.startswith("docs/") and (ROOT / source).is_file():
        return source.removeprefix("docs/")
    is_there = source.startswith("results/") and source.endswith(".svg")
    return source if is_there or (source.startswith("notebooks/") and source.endswith(".ipynb")) else None


def make_methods() -> str:
    """A page of all methods: what each is, its options, and its docstring."""
    lines = [
        "# Methods", "",
        "Made from the docstrings of the registered methods. `fewshot train --method NAME --help` shows the same "
        "options; [Results](results/index.md) says what each reaches.", "",
        *(f"- **{family}**: {meaning}" for family, meaning in FAMILIES.items()), "",
        "| method | what it is | family |", "| --- | --- | --- |",
    ]  # fmt: skip
    for name in METHODS.names():
        summary = METHODS.summary(name).replace("|", "\\|")
        lines.append(f"| [{name}](#{make_anchor(name)}) | {summary} | {unwrap(METHODS[name]).family} |")
    for name in METHODS.names():
        method = unwrap(METHODS[name])
        lines += ["", f"## {name} {{ #{make_anchor(name)} }}", "", f"*{'; '.join(list_facts(method))}.*", ""]
        lines += [f"::: {method.__module__}.{method.__qualname__}", "    options:"]
        lines += [
            "      heading_level: 3",
            "      members: false",
            "      show_root_heading: false",
            "      show_root_toc_entry: false",
            "",
        ]
    return "\n".join([*lines, ""])


def list_facts(method: type[Method]) -> list[str]:
    """What a method's class declares about it, in words."""
    return [
        f"Called {method.label}",
        method.family,
        "needs the network in each episode" if method.needs_network else "works from features",
        *(["learns a classifier for each label, so for a fixed number of ways"] if method.learned_classes else []),
        "has recipes" if method.published else "has no recipes",
        *([f"needs the package {method.requires}"] if method.requires else []),
    ]


def make_anchor(name: str) -> str:
    """What the heading of a method is called in links; two of them differ by signs only."""
    return f"method-{name.replace('+', 'plus')}"


def make_api() -> str:
    """A page of the public names: what `import fewshot` gives."""
    lines = ["# API", "", "Everything that `import fewshot` gives.", ""]
    for name in sorted(fewshot.__all__, key=str.lower):
        home = fewshot._HOME[name]
        lines += [f"::: fewshot.{home}.{name}", ""]
    return "\n".join(lines)


def make_commands() -> str:
    """A page of the subcommands: what each does, and examples."""
    lines = ["# Commands", "", "`fewshot COMMAND --help` lists every option.", ""]
    for title, names in GROUPS.items():
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        for name in names:
            lines += [f"### fewshot {name}", "", COMMANDS[name].description, "", "```bash", *COMMANDS[name].examples]
            lines += ["```", ""]
    return "\n".join(lines)


def list_made() -> Iterator[str]:
    """The pages that are no files of docs/."""
    yield from (page for source, page in PAGES.items() if source != "README.md")
    yield from ("methods.md", "api.md", "commands.md")
