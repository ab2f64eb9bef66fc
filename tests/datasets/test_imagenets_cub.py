"""miniImageNet, tieredImageNet and CUB in small folders with the published layouts."""

import importlib.util
import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.datasets import cub, load_dataset, mini_imagenet, tiered_imagenet
from fewshot.datasets.splits import load_published_split
from fewshot.errors import DataError, UnknownNameError
from fewshot.images.imageset import check_disjoint

PARTS = ("train", "val", "test")
PX = {"size_px": 8}
SPECIES = [f"{number:03d}.Bird_{number}" for number in range(1, 201)]


def jpeg(level: int, width_px: int = 8, height_px: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width_px, height_px), (level, level, level)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


LEVELS = [jpeg(level) for level in range(256)]


def level(wnid: str, copy: int) -> int:
    """A grey level that depends on class and copy."""
    return (int(wnid[-4:]) * 7 + copy * 31) % 256


def write_folders(folder: Path, name: str, copies: int = 2) -> Path:
    for split, wnids in load_published_split(name).items():
        for wnid in wnids:
            (folder / name / split / wnid).mkdir(parents=True)
            for copy in range(copies):
                file = folder / name / split / wnid / f"{wnid}{copy:08d}.jpg"
                file.write_bytes(LEVELS[level(wnid, copy)])
    return folder / name


def write_tables(root: Path, copies: int = 2) -> Path:
    """Ravi's layout; the rows of a table are in reverse order."""
    folder = root / "mini_imagenet"
    (folder / "images").mkdir(parents=True)
    for split, wnids in load_published_split("mini_imagenet").items():
        rows = []
        for wnid in wnids:
            for copy in range(copies):
                rows.append(f"{wnid}{copy:08d}.jpg,{wnid}")
                (folder / "images" / f"{wnid}{copy:08d}.jpg").write_bytes(LEVELS[level(wnid, copy)])
        (folder / f"{split}.csv").write_text("\n".join(["filename,label", *reversed(rows)]) + "\n")
    return folder


@pytest.mark.parametrize(("name", "sizes"), [("mini_imagenet", (64, 16, 20)), ("tiered_imagenet", (351, 97, 160))])
def test_published_class_lists_have_the_published_sizes_and_are_disjoint(name, sizes):
    splits = load_published_split(name)
    assert tuple(len(set(splits[split])) for split in PARTS) == sizes
    check_disjoint(**splits)
    ids = [wnid for split in PARTS for wnid in splits[split]]
    assert all(len(wnid) == 9 and wnid[0] == "n" and wnid[1:].isdigit() for wnid in ids)


def test_mini_imagenet_holds_the_same_100_classes_as_timm_lists():
    timm = importlib.util.find_spec("timm")  # found, not imported: that takes seconds
    file = Path(timm.origin).parent / "data" / "_info" / "mini_imagenet_synsets.txt"
    listed = file.read_text().split()
    assert sorted(w for names in load_published_split("mini_imagenet").values() for w in names) == sorted(listed)


@pytest.mark.parametrize(("name", "sizes"), [("mini_imagenet", (64, 16, 20)), ("tiered_imagenet", (351, 97, 160))])
def test_class_folders_become_classes_in_published_order(tmp_path, name, sizes):
    write_folders(tmp_path, name)
    for split, n_classes in zip(PARTS, sizes, strict=True):
        images = load_dataset(name, split, tmp_path, **PX)
        assert images.class_names == tuple(load_published_split(name)[split])
        assert images.n_classes == n_classes
        assert images.split == split
        assert images.groups is None
        assert images.image_shape == (3, 8, 8)
        expected = [level(wnid, copy) for wnid in images.class_names for copy in range(2)]
        assert images.labels.tolist() == np.repeat(np.arange(n_classes), 2).tolist()
        assert abs(images.images[:, 0, 4, 4].int().numpy() - expected).max() <= 2  # JPEG rounds


def test_tables_and_folders_give_the_same_set(tmp_path):
    write_tables(tmp_path / "tables")
    write_folders(tmp_path / "folders", "mini_imagenet")
    for split in PARTS:
        a, b = (load_dataset("mini_imagenet", split, tmp_path / root, **PX) for root in ("tables", "folders"))
        assert a.fingerprint == b.fingerprint


def test_size_defaults_to_84_and_a_fake_tree_is_called_incomparable(tmp_path, caplog):
    write_folders(tmp_path, "mini_imagenet", copies=1)
    with caplog.at_level(logging.WARNING):
        images = load_dataset("mini_imagenet", "val", tmp_path)
    assert images.image_shape == (3, 84, 84)
    assert "mini_imagenet/val has 16 images where 9600 are published" in caplog.text
    caplog.clear()
    mini_imagenet.warn_of_other_count("mini_imagenet", "val", 9600, mini_imagenet.N_IMAGES)
    assert not caplog.text


def test_published_counts_add_up():
    assert {split: 600 * n for split, n in zip(PARTS, (64, 16, 20), strict=True)} == mini_imagenet.N_IMAGES
    assert sum(tiered_imagenet.N_IMAGES.values()) == 779_165  # of the paper's section on the data set


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "val" / "n01855672").rename(f / "val" / "n99999999"),
            r"val: 15 of the 16 .*; 1 missing: .?n01855672.?; 1 not of this split: .?n99999999",
        ),
        (lambda f: [p.unlink() for p in (f / "val" / "n01855672").iterdir()], "n01855672"),
        (lambda f: (f / "val" / "n01855672" / "n0185567200000000.jpg").write_bytes(b"x"), "00000000.jpg"),
    ],
)
def test_folders_that_are_not_the_published_ones_are_named(tmp_path, damage, message):
    damage(write_folders(tmp_path, "mini_imagenet"))
    with pytest.raises(DataError, match=message):
        load_dataset("mini_imagenet", "val", tmp_path, **PX)


def test_a_missing_class_of_tiered_imagenet_is_named(tmp_path):
    folder = write_folders(tmp_path, "tiered_imagenet", copies=1)
    (folder / "test" / "n07768694").rename(folder / "train" / "n07768694")
    with pytest.raises(DataError, match=r"test: 159 of the 160 .*1 missing: .?n07768694"):
        load_dataset("tiered_imagenet", "test", tmp_path, **PX)
    with pytest.raises(DataError, match=r"train: 351 of the 351 .*1 not of this split: .?n07768694"):
        load_dataset("tiered_imagenet", "train", tmp_path, **PX)


@pytest.mark.parametrize("name", ["mini_imagenet", "tiered_imagenet", "cub"])
def test_nothing_there_and_an_unknown_split_or_resize(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: .*missing.*get_data.py --dataset {name}"):
        load_dataset(name, "train", tmp_path)
    with pytest.raises(UnknownNameError, match="'novel'"):
        load_dataset(name, "novel", tmp_path)
    with pytest.raises(UnknownNameError, match=r"'sizepx'.*Did you mean 'size_px'"):
        load_dataset(name, "train", tmp_path, sizepx=8)


def test_an_unreadable_image_can_be_left_out(tmp_path):
    folder = write_folders(tmp_path, "mini_imagenet")
    (folder / "val" / "n01855672" / "n0185567200000000.jpg").write_bytes(b"x")
    images = load_dataset("mini_imagenet", "val", tmp_path, skip_bad_images=True, **PX)
    assert images.class_counts.tolist() == [1] + [2] * 15


def replace_in_table(old: str, new: str):
    def damage(folder: Path) -> None:
        table = folder / "val.csv"
        text = table.read_text()
        assert old in text
        table.write_text(text.replace(old, new, 1))

    return damage


ROW = "n0185567200000000.jpg,n01855672"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            replace_in_table("filename,label", "file,label"),
            "line 1 must be 'filename,label', found 'file,label'",
        ),
        (lambda f: (f / "val.csv").write_text(""), "found 'an empty file'"),
        (replace_in_table(ROW, "n0185567200000000.jpg"), "line 33 must be a file name and a label"),
        (replace_in_table(ROW, "../n0185567200000000.jpg,n01855672"), "line 33 must be a file name"),
        (
            replace_in_table(ROW, "n0185567200000001.jpg,n01855672"),
            "1 files are named twice: .?n0185567",
        ),
        (replace_in_table(ROW, "n0185567200000000.jpg,n01532829"), "1 not of this split: .?n01532829"),
        (
            lambda f: (f / "images" / ROW[:21]).unlink(),
            f"1 of the 32 files of val.csv are missing: .?{ROW[:21]}",
        ),
        (lambda f: (f / "images").rename(f / "pictures"), "the folder of images is missing"),
    ],
)
def test_tables_that_are_not_as_published_are_named(tmp_path, damage, message):
    damage(write_tables(tmp_path))
    with pytest.raises(DataError, match=message):
        load_dataset("mini_imagenet", "val", tmp_path, **PX)


def write_birds(base: Path, species=SPECIES) -> Path:
    """Write one 40 x 20 image per species: black, with a 10 x 10 square of the class's grey at (25, 5)."""
    lines = []
    for number, name in enumerate(species, 1):
        (base / "images" / name).mkdir(parents=True)
        pixels = np.zeros((20, 40, 3), np.uint8)
        pixels[5:15, 25:35] = 50 + number
        Image.fromarray(pixels).save(base / "images" / name / "bird.jpg", quality=100, subsampling=0)
        lines.append(f"{number} {name}/bird.jpg")
    (base / "images.txt").write_text("\n".join(lines) + "\n")
    (base / "bounding_boxes.txt").write_text("".join(f"{i} 25.0 5.0 10.0 10.0\n" for i in range(1, len(lines) + 1)))
    return base


@pytest.mark.parametrize("place", ["CUB_200_2011", "."])
def test_birds_are_split_by_closer_looks_rule(tmp_path, place):
    write_birds(tmp_path / "cub" / place)
    found = {split: load_dataset("cub", split, tmp_path, **PX).class_names for split in PARTS}
    assert found["train"][:3] == ("001.Bird_1", "003.Bird_3", "005.Bird_5")
    assert found["val"][:3] == ("002.Bird_2", "006.Bird_6", "010.Bird_10")
    assert found["test"][:3] == ("004.Bird_4", "008.Bird_8", "012.Bird_12")
    assert [len(found[split]) for split in PARTS] == [100, 50, 50]
    assert sorted(sum(found.values(), ())) == SPECIES


def test_crop_to_box_shows_the_bird_and_nothing_else(tmp_path):
    write_birds(tmp_path / "cub" / "CUB_200_2011")
    boxed = load_dataset("cub", "test", tmp_path, crop_to_box=True, **PX)
    expected = 50 + np.arange(4, 201, 4)  # birds 4, 8, …, 200
    inside = boxed.images[:, :, 1:-1, 1:-1].int().numpy()
    assert abs(inside - expected[:, None, None, None]).max() <= 12  # JPEG rings at the square's edge
    whole = load_dataset("cub", "test", tmp_path, **PX)
    assert whole.images[:, :, :, :5].max() < 12  # the centred square of 20 x 20 is black on its left
    assert whole.fingerprint != boxed.fingerprint


def test_boxes_that_change_are_seen(tmp_path):
    base = write_birds(tmp_path / "cub")
    before = load_dataset("cub", "val", tmp_path, crop_to_box=True, **PX)
    boxes = (base / "bounding_boxes.txt").read_text()
    (base / "bounding_boxes.txt").write_text(boxes.replace("25.0 5.0 10.0 10.0", "0.0 0.0 10.0 10.0"))
    after = load_dataset("cub", "val", tmp_path, crop_to_box=True, **PX)
    assert before.images.float().mean() > 50
    assert after.images.float().mean() < 10


def test_a_partial_tree_of_birds_says_what_is_missing(tmp_path):
    write_birds(tmp_path / "cub", SPECIES[:173])
    message = r"173 of the 200 class folders .*missing: .?174.*175.* and 17 more"
    with pytest.raises(DataError, match=message):
        load_dataset("cub", "train", tmp_path, **PX)


def remove(*names: str):
    def damage(base: Path) -> None:
        for name in names:
            (base / name).unlink()

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda b: (b / "images" / SPECIES[3]).rename(b / "images" / "wren"),
            r"199 of the 200 .*missing: .?004.*; not expected: .?wren",
        ),
        (
            lambda b: (b / "images" / SPECIES[3]).rename(b / "images" / "003.Wren"),
            r"missing: .?004.*; not expected: .?003.Bird_3.*003.Wren",
        ),
        (
            lambda b: (b / "images" / SPECIES[3] / "bird.jpg").rename(b / "images" / SPECIES[3] / "b.jpg"),
            r"199 of the 200 files .*missing: .?004.Bird_4/bird.jpg.*not listed: .?004.Bird_4/b.jpg",
        ),
        (remove("images.txt"), "the list of images, needed for crop_to_box, is missing"),
        (remove("bounding_boxes.txt"), "the list of boxes, needed for crop_to_box, is missing"),
        (lambda b: (b / "bounding_boxes.txt").write_text("1 2 3\n"), "line 1 has 3 of 5 cells: '1 2 3'"),
        (
            lambda b: (b / "bounding_boxes.txt").write_text("1 a 0 9 9\n"),
            "bounding_boxes.txt: could not convert",
        ),
        (
            lambda b: (b / "bounding_boxes.txt").write_text("1 0 0 9 9\n"),
            r"no box.*002.Bird_2.* and 189 more",
        ),
        (
            lambda b: (b / "bounding_boxes.txt").write_text("".join(f"{i} 90 0 9 9\n" for i in range(1, 201))),
            "outside the 40 x 20 image",
        ),
        (
            lambda b: (b / "bounding_boxes.txt").write_text("".join(f"{i} 0 0 9 {i % 2}.5\n" for i in range(1, 201))),
            r"thinner than a pixel, for .?002.Bird_2.* and 90 more",
        ),
        (
            lambda b: (b / "images" / SPECIES[0] / "bird.jpg").write_bytes(b"x"),
            "bird.jpg: the image is damaged",
        ),
    ],
)
def test_trees_of_birds_that_are_not_as_published_are_named(tmp_path, damage, message):
    damage(write_birds(tmp_path / "cub"))
    with pytest.raises(DataError, match=message):
        load_dataset("cub", "train", tmp_path, crop_to_box=True, **PX)


def test_birds_without_lists_load_uncropped_and_a_bad_photograph_can_be_left_out(tmp_path):
    base = write_birds(tmp_path / "cub")
    remove("images.txt", "bounding_boxes.txt")(base)
    assert len(load_dataset("cub", "test", tmp_path, **PX)) == 50
    (base / "images" / SPECIES[3] / "more.jpg").write_bytes(b"x")
    images = load_dataset("cub", "test", tmp_path, skip_bad_images=True, **PX)
    assert images.class_counts.tolist() == [1] * 50
    assert cub.N_CLASSES == 200
