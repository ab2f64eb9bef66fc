"""The folder loader: it loads what was written, and explains what is wrong with a bad folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fewshot.datasets.folder import folder
from fewshot.errors import DataError, FewShotError
from fewshot.images import listing
from fewshot.images.listing import make_natural_key
from fewshot.images.store import find_cache_dir

PX = 4


def write(path: Path, value: int = 0) -> Path:
    """Write a grey image of one value, losslessly, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"lossless": True} if path.suffix.lower() == ".webp" else {}
    Image.new("RGB", (PX, PX), (value,) * 3).save(path, **options)
    return path


def tree(root: Path, **n_images: int) -> Path:
    """Write `root/<class>/<number>.png`; image k of class c has the value 20 * c + k."""
    for number, (class_name, n) in enumerate(n_images.items()):
        for k in range(n):
            write(root / class_name / f"{k}.png", 20 * number + k)
    return root


def load(root: Path, split: str = "all", **options):
    return folder(root, split, **({"size_px": PX, "channels": 1} | options))


def values(images) -> list[int]:
    """The grey value of each image."""
    flat = images.images.reshape(len(images), -1)
    assert (flat == flat[:, :1]).all()
    return flat[:, 0].tolist()


def raises(*parts: str):
    """Expect a `DataError` whose message contains all `parts`, in order."""
    return pytest.raises(DataError, match="(?s)" + ".*".join(parts))


def test_flat_folder(tmp_path):
    images = load(tree(tmp_path / "pets", cat=2, dog=3, emu=1))
    assert images.class_names == ("cat", "dog", "emu")
    assert images.labels.tolist() == [0, 0, 1, 1, 1, 2]
    assert values(images) == [0, 1, 20, 21, 22, 40]
    assert (images.name, images.split, images.groups) == ("pets", "all", None)
    assert images.image_shape == (1, PX, PX)


def test_options_reach_the_decoder(tmp_path):
    root = tree(tmp_path / "pets", cat=1, dog=1)
    Image.new("RGB", (30, 10), "red").save(root / "cat" / "0.png")
    images = folder(root, "all", size_px=9, channels=3, resize="pad")
    assert images.image_shape == (3, 9, 9)
    assert images.images[0, :, 0, 0].tolist() == [255, 255, 255]
    assert images.images[0, :, 4, 4].tolist() == [255, 0, 0]
    assert folder(root, "all", size_px=9).images[0, :, 0, 0].tolist() == [255, 0, 0]
    with pytest.raises(FewShotError, match="unknown resize rule"):
        folder(root, "all", resize="squash")


def test_natural_order():
    names = ["img10", "img2", "img1", "2", "10", "b", "01", "1", "ä", "a١", "²"]
    assert sorted(names, key=make_natural_key) == ["01", "1", "2", "10", "a١", "b", "img1", "img2", "img10", "²", "ä"]


def test_rows_are_in_natural_order(tmp_path):
    for name in ("10", "9", "100"):
        for file in ("b2", "b10", "a"):
            write(tmp_path / name / f"{file}.png", int(name) + {"a": 0, "b2": 1, "b10": 2}[file])
    assert load(tmp_path).class_names == ("9", "10", "100")
    assert values(load(tmp_path)) == [9, 10, 11, 10, 11, 12, 100, 101, 102]


def test_hidden_and_foreign_files_are_left_aside(tmp_path):
    root = tree(tmp_path / "pets", cat=1, dog=2)
    for name in (".DS_Store", "cat/.hidden.png", "cat/Thumbs.db", "dog/notes.txt", "readme.md", ".git/x.png",
                 "__MACOSX/cat/._0.png", "dog/._0.png", "cat/.ipynb_checkpoints/0.png"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"no image")
    assert load(root).labels.tolist() == [0, 1, 1]


def test_sub_folders_of_splits(tmp_path):
    tree(tmp_path / "train", cat=2, dog=1)
    tree(tmp_path / "val", emu=1, fox=1)
    tree(tmp_path / "test", ant=3, bee=1)
    assert load(tmp_path, "train").class_names == ("cat", "dog")
    assert load(tmp_path, "val").class_names == ("emu", "fox")
    test = load(tmp_path, "test")
    assert (test.class_names, test.labels.tolist(), values(test)) == (
        ("ant", "bee"),
        [0, 0, 0, 1],
        [0, 1, 2, 20],
    )
    assert test.split == "test"
    everything = load(tmp_path)
    assert everything.class_names == ("cat", "dog", "emu", "fox", "ant", "bee")
    assert test.images.storage_offset() == 5 * PX * PX  # a slice of the store, no copy


def test_split_folders_that_share_a_class_overlap_but_merge_for_all(tmp_path):
    tree(tmp_path / "train", cat=2, dog=1)
    tree(tmp_path / "test", cat=1, dog=2)
    with raises("overlap in 2 classes", "cat, dog"):
        load(tmp_path, "train")
    images = load(tmp_path)
    assert (images.class_names, images.class_counts.tolist()) == (("cat", "dog"), [3, 3])


def test_classes_may_be_called_train_and_test(tmp_path):
    assert load(tree(tmp_path, train=1, test=2)).class_names == ("test", "train")


def test_missing_split_folder(tmp_path):
    tree(tmp_path / "train", cat=1, dog=1)
    with raises("no split 'val', only train"):
        load(tmp_path, "val")


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_split_file(tmp_path, wrapped, relative):
    root = tree(tmp_path / "pets", ant=1, bee=2, cat=1, dog=1, emu=3)
    splits = {"train": ["emu", "bee"], "val": ["dog", "ant"]}
    path = (root if relative else tmp_path) / "splits.json"
    path.write_text(json.dumps({"source": "me", "splits": splits} if wrapped else splits))
    option = "splits.json" if relative else str(path)
    train = load(root, "train", split_file=option)
    assert (train.class_names, train.labels.tolist()) == (("emu", "bee"), [0, 0, 0, 1, 1])
    assert values(train) == [80, 81, 82, 20, 21]
    assert load(root, "val", split_file=option).class_names == ("dog", "ant")
    assert load(root, "all", split_file=option).class_names == ("emu", "bee", "dog", "ant", "cat")
    with raises("no split 'test', only train, val"):
        load(root, "test", split_file=option)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no readable JSON"),
        ("[1]", "must hold"),
        ('{"train": "cat"}', "must hold"),
        ('{"train": [1, 2]}', "must hold"),
        ('{"training": ["cat", "dog"]}', "unknown split.*'training'.*Did you mean 'train'"),
        ('{"train": ["cat", "dig"]}', "unknown class.*'dig'.*Did you mean 'dog'"),
        ('{"train": ["cat", "dog"], "val": ["dog", "emu"]}', "overlap in 1 classes: dog"),
        ('{"train": ["cat"]}', "'train' has only the class cat; episodes need two"),
    ],
)
def test_bad_split_files(tmp_path, content, says):
    root = tree(tmp_path / "pets", cat=1, dog=1, emu=1)
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(FewShotError, match=says):
        load(root, "train", split_file=str(tmp_path / "splits.json"))


def test_missing_split_file(tmp_path):
    with raises("split_file: there is neither a file gone.json nor"):
        load(tree(tmp_path, cat=1, dog=1), "train", split_file="gone.json")


def test_groups_by_expression(tmp_path):
    for name in ("cat/p1_0.png", "cat/p1_1.png", "cat/p2_0.png", "dog/p2_7.png"):
        write(tmp_path / name)
    assert load(tmp_path, groups=r"^(.*)_").groups.tolist() == [0, 0, 1, 1]
    assert load(tmp_path, groups=r"(p\d)_\d").groups.tolist() == [0, 0, 1, 1]  # group 1, not the whole match
    assert load(tmp_path, groups=r"p\d").groups.tolist() == [0, 0, 1, 1]
    with raises("2 of 4", r"cat/p2_0.png, dog/p2_7.png", "does not match", r"p1"):
        load(tmp_path, groups=r"(p1)_")
    with raises("no regular expression"):
        load(tmp_path, groups=r"(p1")


def test_groups_of_images_that_stay_when_bad_ones_are_skipped(tmp_path):
    for name in ("cat/a_0.png", "cat/b_0.png", "dog/b_1.png", "dog/c_0.png"):
        write(tmp_path / name)
    (tmp_path / "cat" / "a_0.png").write_bytes(b"")
    images = load(tmp_path, groups="^(.)_", skip_bad_images=True)
    assert (images.labels.tolist(), images.groups.tolist()) == ([0, 1, 1], [0, 0, 1])


def test_groups_by_csv(tmp_path):
    root = tree(tmp_path / "pets", cat=2, dog=2)
    table = root / "groups.csv"
    table.write_text(
        "\ufefffile,group\ncat/0.png,x\ncat\\1.png , y\n\ndog/0.png,x\ndog/1.png,z\ndog/gone.png,z\n", "utf-8"
    )
    assert load(root, groups="groups.csv").groups.tolist() == [0, 1, 0, 2]
    assert load(root, groups=str(table)).groups.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"file,group\ncat/0.png,x\ndog/0.png,\n",
            "2 of 3 .*cat/1.png, dog/0.png: each has no row, or no group",
        ),
        (b"name,group\ncat/0.png,x\n", "first line must be 'file,group', not 'name,group'"),
        (b"", "first line must be 'file,group', not ''"),
        (b"file,group\ncat/0.png\n", "needs two cells.*cat/0.png"),
        (b"file,group\ncat/0.png,x\ncat/0.png,y\n", "cat/0.png is given two groups"),
        (b"file,group\ncat/0.png,\xff\n", "no readable csv file in UTF-8"),
    ],
)
def test_bad_group_tables(tmp_path, content, says):
    root = tree(tmp_path / "pets", cat=2, dog=1)
    (root / "groups.csv").write_bytes(content)
    with raises(says):
        load(root, groups="groups.csv")


def test_missing_group_table(tmp_path):
    with raises("groups: there is neither a file gone.csv nor"):
        load(tree(tmp_path, cat=1, dog=1), groups="gone.csv")


def test_bad_roots(tmp_path):
    with raises("gone does not exist"):
        load(tmp_path / "gone")
    with raises("is a file"):
        load(write(tmp_path / "a" / "image.png"))
    (tmp_path / "empty").mkdir()
    with raises("empty: it contains no class folder"):
        load(tmp_path / "empty")
    with raises("no class folder"):
        load(tmp_path / "empty", "train")


def test_unknown_and_undefined_splits(tmp_path):
    root = tree(tmp_path / "pets", cat=1, dog=1)
    with pytest.raises(FewShotError, match=r"unknown split of folder 'pets' 'trian'.*Did you mean 'train'"):
        load(root, "trian")
    with raises("nothing says which classes are 'test'", "split_file"):
        load(root, "test")


def test_one_class_only(tmp_path):
    with raises("only the class cat; episodes need two or more"):
        load(tree(tmp_path, cat=3))


def test_images_outside_a_class(tmp_path):
    write(tree(tmp_path, cat=1, dog=1) / "lost.PNG")
    with raises("1 images lie in no class folder: lost.PNG"):
        load(tmp_path)
    tree(tmp_path / "b" / "train", cat=1, dog=1)
    write(tmp_path / "b" / "val" / "7.jpg")
    with raises("val: 1 images lie in no class folder: 7.jpg"):
        load(tmp_path / "b", "train")


def test_nested_folders_are_named(tmp_path):
    write(tree(tmp_path, cat=1, dog=1) / "cat" / "old" / "0.png")
    (tmp_path / "dog" / "empty").mkdir()
    with raises("folders inside class folders: cat/old, dog/empty"):
        load(tmp_path)


def test_names_that_are_one_name(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for number, pair in enumerate([("Cat", "cat"), (composed, decomposed), ("STRASSE", "straße")]):
        root = tmp_path / str(number)
        for name in pair:
            write(root / name / "0.png")
        with raises("differ only in case or in how accents are stored"):
            load(root)
    tree(tmp_path / "parts" / "train", cat=1, dog=1)
    tree(tmp_path / "parts" / "test", Cat=1, emu=1)
    with raises("'Cat' and 'cat' differ only in case"):
        load(tmp_path / "parts", "train")


def test_names_are_compared_in_one_unicode_form(tmp_path):
    for name in ("cafe\u0301", "dog", "emu"):
        write(tmp_path / "pets" / name / "a\u0301.png")
    (tmp_path / "s.json").write_text(json.dumps({"train": ["caf\u00e9", "dog"]}))
    table = "file,group\n" + "".join(f"{name}/\u00e1.png,{name}\n" for name in ("caf\u00e9", "dog", "emu"))
    (tmp_path / "g.csv").write_text(table, "utf-8")
    train = load(tmp_path / "pets", "train", split_file=str(tmp_path / "s.json"), groups=str(tmp_path / "g.csv"))
    assert train.class_names == ("caf\u00e9", "dog")
    assert train.n_classes == len(set(train.groups)) == 2


def test_a_name_that_is_no_utf8(tmp_path):
    tree(tmp_path, cat=1, dog=1)
    os.mkdir(os.fsencode(tmp_path) + b"/bad\xff")
    with raises("has no UTF-8 name"):
        load(tmp_path)


def test_file_names_that_are_no_utf8_load(tmp_path):
    root = tree(tmp_path, cat=1, dog=1)
    os.rename(root / "cat" / "0.png", os.fsencode(root) + b"/cat/\xff.png")
    assert values(load(root)) == [0, 20]


def test_empty_classes_are_named(tmp_path):
    root = tree(tmp_path / "pets", cat=1, dog=1)
    (root / "emu").mkdir()
    (root / "fox").mkdir()
    (root / "fox" / "fox.heic").write_bytes(b"?")
    (root / "fox" / "README").write_bytes(b"?")
    with raises(r"no image in emu, fox \(only files of other kinds: .heic, no suffix; .*pillow-heif"):
        load(root)


def test_all_unreadable_images_are_named(tmp_path):
    root = tree(tmp_path / "pets", cat=3, dog=2)
    (root / "cat" / "1.png").write_bytes(b"")
    (root / "dog" / "0.png").write_bytes(b"<html>")
    (root / "dog" / "9.png").symlink_to(root / "gone.png")
    with raises("3 of 6 images", "cat/1.png: the file is empty", "dog/0.png: this is no image",
                "dog/9.png: the file cannot be read"):  # fmt: skip
        load(root)


def test_skipping_bad_images(tmp_path, caplog):
    root = tree(tmp_path / "pets", cat=3, dog=2)
    (root / "cat" / "1.png").write_bytes(b"")
    images = load(root, skip_bad_images=True)
    assert "1.png: the file is empty" in caplog.text
    assert (images.labels.tolist(), values(images)) == ([0, 0, 1, 1], [0, 2, 20, 21])
    for k in range(2):
        (root / "dog" / f"{k}.png").write_bytes(b"")
    with raises("no image of dog can be read"):
        load(root, skip_bad_images=True)
    for k in range(3):
        (root / "cat" / f"{k}.png").write_bytes(b"")
    with raises("5 of 5 images"):
        load(root, skip_bad_images=True)


def test_a_changed_file_is_packed_anew(tmp_path):
    root = tree(tmp_path / "pets", cat=1, dog=1)
    first = load(root)
    assert load(root).fingerprint == first.fingerprint
    write(root / "dog" / "0.png", 99)
    os.utime(root / "dog" / "0.png", ns=(1, 1))  # a date that nothing else has
    assert values(load(root)) == [0, 99]
    write(root / "dog" / "1.png", 98)
    assert values(load(root)) == [0, 99, 98]
    (root / "dog" / "0.png").rename(root / "cat" / "0b.png")
    assert (values(load(root)), load(root).labels.tolist()) == ([0, 99, 98], [0, 0, 1])
    assert values(first) == [0, 20]


def test_two_folders_of_one_name_date_and_size_are_kept_apart(tmp_path):
    for number, value in enumerate((10, 20)):
        for name in ("cat", "dog"):
            path = write(tmp_path / str(number) / "pets" / name / "0.bmp", value)
            os.utime(path, ns=(1, 1))
    assert values(load(tmp_path / "0" / "pets")) == [10, 10]
    assert values(load(tmp_path / "1" / "pets")) == [20, 20]


def test_a_relative_root_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path / "my pets.v1", cat=1, dog=1))
    assert load(Path()).name == "my pets.v1"


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=12).filter(
    lambda name: not name.startswith(".") and name.casefold() not in ("__macosx", "@eadir")
)
FORMATS = st.sampled_from([".png", ".PNG", ".bmp", ".gif", ".webp", ".tif", ".Tiff", ".ppm"])
TREES = st.lists(
    st.tuples(NAMES, st.lists(FORMATS, min_size=1, max_size=4)),
    min_size=2,
    max_size=5,
    unique_by=lambda entry: unicodedata.normalize("NFC", entry[0]).casefold(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=TREES, stem=NAMES)
def test_what_is_written_is_loaded(tmp_path, classes, stem):
    root = tmp_path / "tree"
    shutil.rmtree(root, ignore_errors=True)
    expected = {}
    for number, (name, suffixes) in enumerate(classes):
        expected[unicodedata.normalize("NFC", name)] = [50 * number + k for k in range(len(suffixes))]
        for k, suffix in enumerate(suffixes):
            write(root / name / f"{stem}-{k}{suffix}", 50 * number + k)
    images = load(root)
    loaded = {name: [] for name in images.class_names}
    for label, value in zip(images.labels, values(images), strict=True):
        loaded[images.class_names[label]].append(value)
    assert loaded == expected
    assert images.class_counts.tolist() == [len(expected[name]) for name in images.class_names]


# A process that packs the folder given: it says when it decodes the first image, and waits before the fourth.
SLOW_PACKING = """
import sys, time
from pathlib import Path
from fewshot.images import listing
from fewshot.datasets.folder import folder

decode, seconds, n_decoded = listing.decode_image, float(sys.argv[2]), 0

def slow(*arguments):
    global n_decoded
    n_decoded += 1
    if n_decoded == 4:
        print("packing", flush=True)
        time.sleep(seconds)
    return decode(*arguments)

listing.decode_image = slow
images = folder(Path(sys.argv[1]), "all", size_px=4, channels=1)
print(n_decoded, images.fingerprint)
"""


def start_packing(root: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-W", "error", "-c", SLOW_PACKING, str(root), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_pack_once_and_a_killed_one_leaves_no_store(tmp_path, monkeypatch):
    killed, shared = tree(tmp_path / "killed", cat=6, dog=6), tree(tmp_path / "shared", cat=6, dog=6)
    expected = [*range(6), *range(20, 26)]
    first, second = start_packing(killed, seconds=600), start_packing(shared, seconds=1)
    try:
        assert second.stdout.readline() == "packing\n"
        with monkeypatch.context() as here:  # the other process packs; this one waits and decodes nothing
            here.setattr(listing, "decode_image", None)
            assert values(load(shared)) == expected
        n_decoded, fingerprint = second.communicate(timeout=60)[0].split()
        assert (int(n_decoded), fingerprint) == (12, load(shared).fingerprint)

        assert first.stdout.readline() == "packing\n"
        first.send_signal(signal.SIGKILL)
        assert first.wait(60) == -signal.SIGKILL
        assert any(path.name.startswith(f".{killed.name}-") for path in find_cache_dir().iterdir())  # what it left
        assert not [path for path in find_cache_dir().glob(f"{killed.name}-*") if path.is_dir()]
        assert values(load(killed)) == expected
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


def test_a_thousand_files_list_fast(tmp_path):
    root = tree(tmp_path / "many", cat=2, dog=2)
    for k in range(2, 1000):
        os.link(root / "cat" / "0.png", root / "cat" / f"{k}.png")
    load(root)
    start = time.perf_counter()
    assert len(load(root)) == 1002
    assert time.perf_counter() - start < 1
