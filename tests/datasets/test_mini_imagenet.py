"""All layouts of miniImageNet give the same set."""

import io
import logging
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from test_imagenets_cub import PARTS, PX, write_folders, write_tables

from fewshot.datasets import load_dataset, mini_imagenet
from fewshot.datasets.download import get_data
from fewshot.datasets.mini_imagenet_layouts import EXPECTED
from fewshot.datasets.sources import NEEDS
from fewshot.datasets.splits import load_published_split
from fewshot.errors import DataError

CLASSES = [wnid for split in PARTS for wnid in load_published_split("mini_imagenet")[split]]


def all_classes_at_once(root):
    """One folder per class; only the class lists define the splits."""
    write_folders(root / "made", "mini_imagenet")
    for folder in (root / "made" / "mini_imagenet").glob("*/*"):
        shutil.move(folder, root / "mini_imagenet" / folder.name)


def classes_in_two(root):
    """As in a copy on GitHub: train/ contains the first image of every class, val/ the second."""
    write_folders(root / "made", "mini_imagenet")
    for file in sorted((root / "made" / "mini_imagenet").glob("*/*/*")):
        target = root / "mini_imagenet" / ("train" if file.stem.endswith("0") else "val") / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.move(file, target / file.name)


def zipped(root):
    folder = write_folders(root / "made", "mini_imagenet")
    (root / "mini_imagenet").mkdir()
    with zipfile.ZipFile(root / "mini_imagenet" / "copy.zip", "w") as archive:
        for file in folder.glob("*/*/*"):
            archive.write(file, f"images/{file.parent.name}/{file.name}")
        archive.writestr("__MACOSX/._x.jpg", b"junk")


def tables_and_zip(root):
    folder = write_tables(root)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for file in (folder / "images").iterdir():
            archive.write(file, f"images/{file.name}")
    shutil.rmtree(folder / "images")


def pickled(root, protocol=2, damage=lambda content: None):
    """The pickles, with the pixels that Pillow decodes; classes and rows are unordered."""
    (root / "mini_imagenet").mkdir(parents=True)
    folder = write_folders(root / "made", "mini_imagenet")
    for split in PARTS:
        files = sorted((folder / split).glob("*/*"), key=lambda file: file.name[::-1])
        pixels = np.stack([np.asarray(Image.open(file)) for file in files])
        rows = {file.parent.name: [] for file in files}
        for row in sorted(range(len(files)), key=lambda row: files[row].name):
            rows[files[row].parent.name].append(row)
        content = {"image_data": pixels, "class_dict": rows}
        damage(content)
        path = root / "mini_imagenet" / f"mini-imagenet-cache-{split}.pkl"
        path.write_bytes(pickle.dumps(content, protocol))


LAYOUTS = {
    "class folders at any place": (all_classes_at_once, classes_in_two),
    "class folders in copy.zip": (zipped,),
    "tables of files": (write_tables, tables_and_zip),
    "the pickle mini-imagenet-cache-val.pkl": (pickled,),
}


@pytest.mark.parametrize(("title", "write"), [(title, write) for title, ways in LAYOUTS.items() for write in ways])
def test_every_layout_gives_the_published_splits(tmp_path, caplog, title, write):
    write_folders(tmp_path / "a", "mini_imagenet")
    write(tmp_path / "b")
    with caplog.at_level(logging.INFO):
        for split in PARTS:
            expected, found = (load_dataset("mini_imagenet", split, tmp_path / place, **PX) for place in "ab")
            assert found.class_names == tuple(load_published_split("mini_imagenet")[split])
            assert found.fingerprint == expected.fingerprint
            assert found.origins == expected.origins
    n = 2 * len(load_published_split("mini_imagenet")["val"])
    assert f"mini_imagenet/val: {title} in {tmp_path / 'b' / 'mini_imagenet'}, {n} images" in caplog.text


@pytest.mark.parametrize("known", [True, False])
def test_the_known_copy_is_recognised(tmp_path, monkeypatch, caplog, known):
    write_folders(tmp_path, "mini_imagenet")
    monkeypatch.setattr(mini_imagenet, "N_IMAGES", {"val": 32})
    fingerprint = load_dataset("mini_imagenet", "val", tmp_path).fingerprint if known else "0123456789abcdef"
    monkeypatch.setattr(mini_imagenet, "KNOWN_COPY", {"val": fingerprint})
    caplog.clear()
    with caplog.at_level(logging.INFO):
        load_dataset("mini_imagenet", "val", tmp_path)
    assert f"val has {'the pixels of' if known else 'other pixels than'} the 84 px copy" in caplog.text


@pytest.mark.parametrize("protocol", [0, 4, 5])
def test_pickles_of_any_protocol(tmp_path, protocol):
    pickled(tmp_path, protocol)
    assert load_dataset("mini_imagenet", "test", tmp_path, size_px=4).image_shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content.pop("image_data"), r"cache-val.pkl: 'image_data' must be an array"),
        (lambda content: content.update(image_data=content["image_data"] / 255), "must be an array of uint8"),
        (lambda content: content["class_dict"].pop("n01855672", None), "1 missing: n01855672"),
        (lambda content: content["class_dict"].get("n01855672", [0, 1]).pop(), "each of the 32 rows once"),
        (lambda content: content.update(class_dict=[1]), "'class_dict' must be a dictionary"),
    ],
)
def test_damaged_pickles_are_named(tmp_path, damage, message):
    pickled(tmp_path, damage=damage)
    with pytest.raises(DataError, match=message):
        load_dataset("mini_imagenet", "val", tmp_path, **PX)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "attacked"), "w"))

    (tmp_path / "mini_imagenet").mkdir()
    (tmp_path / "mini_imagenet" / "mini-imagenet-cache-val.pkl").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(DataError, match=r"refused or damaged pickle: it asks for (_?io|builtins)\.open"):
        load_dataset("mini_imagenet", "val", tmp_path)
    assert not (tmp_path / "attacked").exists()


def test_an_image_in_two_folders_is_refused(tmp_path):
    classes_in_two(tmp_path)
    folder = tmp_path / "mini_imagenet"
    name = "n01855672/n0185567200000000.jpg"
    shutil.copy(folder / "train" / name, folder / "val" / name)
    with pytest.raises(DataError, match=f"1 images lie in two folders: {name}"):
        load_dataset("mini_imagenet", "val", tmp_path, **PX)


def test_a_class_that_miniimagenet_does_not_have_is_named(tmp_path):
    all_classes_at_once(tmp_path)
    shutil.copytree(tmp_path / "mini_imagenet" / CLASSES[0], tmp_path / "mini_imagenet" / "n99999999")
    with pytest.raises(DataError, match=r"100 of the 100 .*1 not of this split: n99999999"):
        load_dataset("mini_imagenet", "val", tmp_path, **PX)


def test_nothing_known_there_names_the_layouts(tmp_path):
    (tmp_path / "mini_imagenet" / "pictures").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        load_dataset("mini_imagenet", "val", tmp_path)
    assert EXPECTED in str(caught.value)


@pytest.mark.parametrize("copies", [1, 2])
def test_get_data_says_what_is_there(tmp_path, copies):
    said = io.StringIO()
    write_folders(tmp_path, "mini_imagenet", copies)
    complete = get_data(NEEDS, ["mini_imagenet"], tmp_path, verify_only=True, say=lambda line: said.write(line))
    counts = f"train {64 * copies}, val {16 * copies}, test {20 * copies} images"
    assert not complete
    assert f"a folder for each split: {counts}; published are 600 a class" in said.getvalue()


def test_get_data_takes_a_complete_copy_for_complete(tmp_path, monkeypatch):
    write_folders(tmp_path, "mini_imagenet")
    monkeypatch.setattr(mini_imagenet, "N_IMAGES", {"train": 128, "val": 32, "test": 40})
    said = io.StringIO()
    assert get_data(NEEDS, ["mini_imagenet"], tmp_path, verify_only=True, say=lambda line: said.write(line))
    assert "a folder for each split: train 128, val 32, test 40 images" in said.getvalue()


def test_get_data_says_what_is_missing(tmp_path):
    said = io.StringIO()
    shutil.rmtree(write_folders(tmp_path, "mini_imagenet") / "val" / CLASSES[64])
    assert not get_data(NEEDS, ["mini_imagenet"], tmp_path, verify_only=True, say=lambda line: said.write(line))
    assert f"1 missing: {CLASSES[64]}" in said.getvalue()
