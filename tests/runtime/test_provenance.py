"""The commit that a record names, and the mark for code that differs from it."""

import subprocess

import pytest

from fewshot.runtime import provenance

FILES = ["fewshot/runtime/provenance.py", "scripts/run.py", "scripts/recipes/a.yaml", "setup.cfg", "results/a.json"]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository in which the module seems to be installed; returns its root."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("at first\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / FILES[0]))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "marked"),
    [(None, False), *((name, not name.startswith(("results", "scripts/recipes"))) for name in FILES)],
)
def test_only_changed_code_is_marked(repository, name, marked):
    head = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if name is not None:
        (repository / name).write_text("changed\n")
    assert provenance.find_commit.__wrapped__() == head + "+" * marked


def test_without_a_repository_the_environment_names_the_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / FILES[0]))
    monkeypatch.setenv("FEWSHOT_COMMIT", "0123456789ab")
    assert provenance.find_commit.__wrapped__() == "0123456789ab"
    monkeypatch.delenv("FEWSHOT_COMMIT")
    assert provenance.find_commit.__wrapped__().startswith("fewshot ")
