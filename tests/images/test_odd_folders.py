"""Folders as people have them: every file once, nothing left out in silence, one sentence for what is wrong."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import save

from fewshot import FewShotClassifier
from fewshot.errors import DataError
from fewshot.photographs.encoding import encode_photographs

CLASSES = ("a", "b", "c")


def draw(path: Path, kind: int, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng((kind, number)).normal(0, 25, (20, 20, 3))
    path.write_bytes(save((np.roll([200, 60, 40], kind) + noise).clip(0, 255).astype(np.uint8), "PNG"))
    return path


def make(root: Path, names: tuple[str, ...] = CLASSES) -> Path:
    for kind, name in enumerate(names):
        for number in range(3):
            draw(root / name / f"{number}.png", kind, number)
    return root


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    unfitted = FewShotClassifier("conv4", pretrained=False, size_px=16, backbone_options={"n_filters": 4})
    return unfitted.fit_folder(make(tmp_path_factory.mktemp("support")))


def add_socket(root: Path) -> None:
    place = os.getcwd()
    os.chdir(root / "a")  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("x.jpg")
    os.chdir(place)


def add_junk(root: Path) -> None:
    for name in (".DS_Store", "a/.DS_Store", "a/Thumbs.db", "Thumbs.db", "desktop.ini", "a/._0.png"):
        (root / name).write_bytes(b"junk")
    for name in (".cache/x.png", "__MACOSX/a/._0.png", "a/.hidden.png"):
        draw(root / name, 0, 50)


def add_names(root: Path) -> None:
    names = (
        "new\nline",
        "esc\x1b[31m",
        "=cmd()",
        "@x",
        "-x",
        "😀",
        "x" * 251,
        " ",
        "a\tb",
        '"q"',
        "a,b",
        "<img src=x>",
        "%s",
    )
    for number, name in enumerate(names):
        draw(root / "a" / f"{name}.png", 0, 100 + number)
    os.link(root / "b/0.png", os.path.join(os.fsencode(root), b"b", b"\xff\xfe.png"))


def fill_sparsely(path: Path, n_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(n_bytes)


# What is added to three classes of three photographs; what `fit` says, or ""; how many are predicted, and how many not.
CASES: dict[str, tuple[Callable[[Path], object], str, int, int]] = {
    "nothing": (lambda r: None, "", 9, 0),
    "a pipe": (lambda r: os.mkfifo(r / "a" / "x.jpg"), "it is a pipe", 9, 1),
    "a pipe beside the classes": (lambda r: os.mkfifo(r / "d"), "", 9, 0),
    "a socket": (add_socket, "cannot be read", 9, 1),
    "an endless device": (lambda r: (r / "a/x.jpg").symlink_to("/dev/zero"), "it is a device", 9, 1),
    "an empty device": (lambda r: (r / "a/x.jpg").symlink_to("/dev/null"), "it is a device", 9, 1),
    "a link to itself": (lambda r: (r / "a/x.jpg").symlink_to("x.jpg"), "Too many levels", 9, 1),
    "a link up": (lambda r: (r / "a/up").symlink_to(".."), "folders inside class folders: a/up", 9, 0),
    "a link to all": (lambda r: (r / "d").symlink_to("."), "folders inside class folders", 9, 0),
    "a class twice": (lambda r: (r / "d").symlink_to("a"), "the same picture in two classes", 9, 0),
    "a lost photograph": (lambda r: (r / "a/x.jpg").symlink_to("nowhere.jpg"), "No such file", 9, 1),
    "a lost class": (lambda r: (r / "d").symlink_to("nowhere"), "links that lead nowhere: d; mend or remove", 9, 0),
    "a link to a photograph": (lambda r: (r / "a/x.png").symlink_to("0.png"), "", 9, 0),
    "junk": (add_junk, "", 9, 0),
    "names": (add_names, "", 23, 0),
    "an empty class": (lambda r: (r / "d").mkdir(), "no image in d; fill or remove", 9, 0),
    "a class of one": (lambda r: draw(r / "d/0.png", 3, 0), "", 10, 0),
    "a class of an empty file": (lambda r: ((r / "d").mkdir(), (r / "d/0.png").touch()), "empty", 9, 1),
    "nested": (lambda r: draw(r / "a/b/0.png", 0, 9), "folders inside class folders: a/b", 10, 0),
    "a folder named like an image": (lambda r: (r / "a/x.jpg").mkdir(), "folders inside class folders", 9, 0),
    "two classes of the same": (lambda r: shutil.copytree(r / "a", r / "d"), "same picture in two classes", 12, 0),
    "other case": (lambda r: draw(r / "A/0.png", 3, 0), "'A' and 'a' differ only in case", 10, 0),
    "other form of an accent": (lambda r: make(r, ("ü", "u\u0308")), "differ only in case or in how accents", 15, 0),
    "a name that is no UTF-8": (lambda r: os.mkdir(os.path.join(os.fsencode(r), b"\xff")), "has no UTF-8 name", 9, 0),
    "splits": (lambda r: (make(r / "train"), make(r / "test")), "train look like splits", 27, 0),
    "a loose photograph": (lambda r: draw(r / "x.png", 0, 9), "1 images lie in no class folder: x.png", 10, 0),
    "a sparse file": (lambda r: fill_sparsely(r / "a/x.png", 1 << 42), "too many for an image", 9, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_fit_and_predict(name, fitted, tmp_path, caplog):
    change, says, n_predicted, n_bad = CASES[name]
    root = make(tmp_path / "photographs")
    change(root)
    unfitted = FewShotClassifier("conv4", pretrained=False, size_px=16, backbone_options={"n_filters": 4})
    if says:
        with pytest.raises(DataError, match=says) as caught:
            unfitted.fit_folder(root)
        assert "\n" not in str(caught.value)
    else:
        unfitted.fit_folder(root)
    asked = encode_photographs(fitted, root)
    assert (len(asked.paths), asked.n_bad) == (n_predicted, n_bad)
    assert caplog.text.count("left out: ") == n_bad + (name == "a lost class")


@pytest.mark.parametrize("wrong", ["a pipe", "a file", "nothing"])
def test_what_is_no_folder(wrong, tmp_path):
    root = tmp_path / "x"
    {"a pipe": lambda: os.mkfifo(root), "a file": root.touch, "nothing": lambda: None}[wrong]()
    unfitted = FewShotClassifier("conv4", pretrained=False)
    with pytest.raises(DataError, match="does not exist" if wrong == "nothing" else "is a file"):
        unfitted.fit_folder(root)


def test_what_may_not_be_read_is_said(tmp_path):
    """In a process without root's right to read everything."""
    for name, mode in (("closed", 0), ("listed", 0o444)):
        make(tmp_path / name)
        (tmp_path / name / "a").chmod(mode)
    code = (
        "import sys\nfrom pathlib import Path\nfrom fewshot.images.listing import list_class_files, list_image_files\n"
        "for name in sys.argv[1:]:\n  for listed in (list_class_files, list_image_files):\n"
        "    try: print(len(listed(Path(name))))\n    except ValueError as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "closed"), str(tmp_path / "listed")]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may read everything, and there is no setpriv")
        without = "-dac_override,-dac_read_search"
        words = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    closed = f"the folder {tmp_path}/closed/a cannot be listed (Permission denied)"
    listed = f"the folder {tmp_path}/listed/a cannot be entered (Permission denied)"
    assert done.stdout.splitlines() == [closed, closed, listed, listed]
    for name in ("closed", "listed"):
        (tmp_path / name / "a").chmod(0o755)
