"""The Markdown files: every link and picture is there; versions agree."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

import fewshot

ROOT = Path(__file__).parents[1]
FOLDERS = ("data", "docs", "fewshot", "notebooks", "results", "scripts", "tests")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
MADE = {ROOT / "docs" / f"{name}.md" for name in ("methods", "api", "commands")}  # of the site, by docs/hooks.py
FENCED, INLINE = re.compile(r"^```.*?^```", re.M | re.S), re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ELSEWHERE = ("https://", "http://", "mailto:")
NAMED = re.compile(r"\b(?:docs/[a-z_/]+|README|RESULTS|CHANGELOG|CONTRIBUTING)\.md\b")


def links(text: str) -> list[str]:
    """List the targets of links and pictures, except those in code and those to other sites."""
    found = LINK.findall(INLINE.sub("`code`", FENCED.sub("", text)))
    return [target for target in found if not target.startswith(ELSEWHERE)]


def anchors(text: str) -> set[str]:
    """List the anchors of headings as GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(document: Path) -> list[str]:
    """List the links of a file whose target file or heading does not exist."""
    missing = []
    for link in links(document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if target.resolve() in MADE:
            continue  # mkdocs checks it
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            missing.append(link)
    return missing


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    (tmp_path / "there.svg").touch()
    page.write_text(
        "# One `x`: two++\n![a](../there.svg) [b](#one-x-two) [c](page.md#one-x-two) [d](https://nowhere.invalid/x)\n"
        "`[e](code.md)`\n```\n[f](code.md)\n```\n[g](gone.md) ![h](there.svg) [i](#two) | [j](page.md#three) |\n"
    )
    assert broken(page) == ["gone.md", "there.svg", "#two", "page.md#three"]


def test_there_are_documents():
    names = {str(path.relative_to(ROOT)) for path in DOCUMENTS}
    assert {"README.md", "RESULTS.md", "CONTRIBUTING.md", "docs/log.md", "data/README.md"} <= names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_something(document):
    assert broken(document) == []


def test_results_lead_to_every_page():
    linked = links((ROOT / "RESULTS.md").read_text(encoding="utf-8"))
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "results").rglob("*.md")} | {"docs/log.md"}
    assert pages - set(linked) == set()


def test_documents_that_code_names_are_there():
    files = [
        path for folder in FOLDERS for kind in ("py", "yaml", "ipynb") for path in (ROOT / folder).rglob(f"*.{kind}")
    ]
    named = {(path, name) for path in files for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 5
    assert [f"{path}: {name}" for path, name in named if not (ROOT / name).exists()] == []


def test_the_newest_release_is_the_version_everywhere():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    releases = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert releases[0] == "Unreleased"
    assert releases[1] == f"{citation['version']} - {citation['date-released']}"
    assert citation["version"] == fewshot.__version__
    assert citation["license"] == setup["metadata"]["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format asks for
