"""Euro coins and world coins: real counts, splits disjoint by country, and every layout."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.datasets.coins import DENOMINATIONS, euro_coins, world_coins
from fewshot.datasets.splits import load_published_split
from fewshot.errors import DataError, FewShotError
from fewshot.images.imageset import check_disjoint

SPLITS = load_published_split("world_coins")
CLASSES = sorted(class_name for names in SPLITS.values() for class_name in names)
# The 32 countries of the data set's page.
COUNTRIES = [
    "australia", "brazil", "canada", "chile", "china", "czech_republic", "denmark", "hong_kong", "hungary",
    "india", "indonesia", "israel", "japan", "malaysia", "mexico", "new_zealand", "norway", "pakistan",
    "philippines", "poland", "russia", "singapore", "south_africa", "south_korea", "spain", "sweden",
    "switzerland", "taiwan", "thailand", "turkey", "united_kingdom", "usa",
]  # fmt: skip


def country(class_name: str) -> str:
    (found,) = [name for name in COUNTRIES if class_name.endswith("_" + name)]
    return found


def encoded(*colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (*colour, 0, 0, 0)[:3]).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, *colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(*colour))


def colours(images) -> list[tuple[int, int]]:
    """Red and green of each image."""
    return [tuple(colour) for colour in images.images[:, :2, 2, 1].tolist()]


# Euro coins: one image of each denomination, of photograph "b" for cents and "a_1" for euros.
EURO = {f"{name}/{'b' if name[-1] == 'c' else 'a_1'}_7.png": 20 * k for k, name in enumerate(DENOMINATIONS)}


def put_euro_zip(root: Path) -> None:
    (root / "euro_coins").mkdir()
    with zipfile.ZipFile(root / "euro_coins" / "euro_coins.zip", "w") as archive:
        for name, value in reversed(EURO.items()):
            archive.writestr(name, encoded(value))
        archive.writestr("__MACOSX/1c/._b_7.png", b"no image")
        archive.writestr("1c/readme.txt", b"no image")


@pytest.mark.parametrize("layout", ["zip", "", "classified/train", "coins-dataset-master/classified/train"])
def test_euro_coins_from_every_layout(tmp_path, layout):
    if layout == "zip":
        put_euro_zip(tmp_path)
    else:
        for name, value in EURO.items():
            write(tmp_path / "euro_coins" / layout / name, value)
        (tmp_path / "euro_coins" / "LICENSE").write_text("MIT")
    for split in ("test", "all"):
        images = euro_coins(tmp_path, split, size_px=4)
        assert images.class_names == ("1c", "2c", "5c", "10c", "20c", "50c", "1e", "2e")
        assert images.labels.tolist() == list(range(8))
        assert colours(images) == [(red, 0) for red in (0, 20, 40, 60, 80, 100, 120, 140)]
        assert images.groups.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
        assert (images.name, images.split) == ("euro_coins", split)


def test_euro_coins_are_for_evaluation_only(tmp_path):
    put_euro_zip(tmp_path)
    for split in ("train", "val"):
        with pytest.raises(DataError, match=f"no '{split}' split: 8 denominations.*for evaluation"):
            euro_coins(tmp_path, split)
    with pytest.raises(FewShotError, match="unknown split"):
        euro_coins(tmp_path, "tset")


def test_bad_euro_coins(tmp_path):
    with pytest.raises(DataError, match=r"euro_coins.zip does not exist. Put it there"):
        euro_coins(tmp_path, "test")
    for name in EURO:
        write(tmp_path / "euro_coins" / name)
    write(tmp_path / "euro_coins" / "1c" / "3.png")
    with pytest.raises(DataError, match=r"no photograph .* in the file names 3.png"):
        euro_coins(tmp_path, "test")
    write(tmp_path / "euro_coins" / "5e" / "a_3.png")
    with pytest.raises(DataError, match=r"has unknown classes \(1\): 5e"):
        euro_coins(tmp_path, "test")
    for path in (tmp_path / "euro_coins" / "2c").iterdir():
        path.unlink()
    (tmp_path / "euro_coins" / "2c").rmdir()
    with pytest.raises(DataError, match=r"lacks classes \(1\): 2c"):
        euro_coins(tmp_path, "test")


def test_damaged_archives(tmp_path):
    put_euro_zip(tmp_path)
    path = tmp_path / "euro_coins" / "euro_coins.zip"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("10c/b_7.png").header_offset
    path.write_bytes(whole[: offset + 60] + b"\xff\xff\xff\xff" + whole[offset + 64 :])
    with pytest.raises(DataError, match=r"1 of 8 images cannot be read: .*10c/b_7.png: the archive is damaged"):
        euro_coins(tmp_path, "test", size_px=4)
    path.write_bytes(whole[:500])
    with pytest.raises(DataError, match="no readable zip archive"):
        euro_coins(tmp_path, "test")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"")
    with pytest.raises(DataError, match="no image in a class folder"):
        euro_coins(tmp_path, "test")


def test_the_published_split():
    check_disjoint(**SPLITS)
    assert {split: len(names) for split, names in SPLITS.items()} == {"train": 125, "val": 28, "test": 58}
    countries = {split: sorted({country(name) for name in names}) for split, names in SPLITS.items()}
    check_disjoint(**countries)
    assert sorted(name for names in countries.values() for name in names) == COUNTRIES
    assert [int(name[:3]) for name in CLASSES] == list(range(211))


def n_images(class_name: str) -> int:
    """Number of images that are written for a class: 1, 2 or 3."""
    return 1 + int(class_name[:3]) % 3


def expected_colours(names: list[str]) -> list[tuple[int, int]]:
    """Red is the class number, green the image's number in its class."""
    return [(int(name[:3]), j) for name in names for j in range(n_images(name))]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world")
    (root / "world_coins").mkdir()
    with zipfile.ZipFile(root / "world_coins" / "world_coins_211_84.zip", "w") as archive:
        for name in CLASSES:
            for j in range(n_images(name)):
                archive.writestr(f"{name}/{j}.png", encoded(int(name[:3]), j))
    return root


@pytest.mark.parametrize("split", ["train", "val", "test", "all"])
def test_world_coins_from_the_archive(world, split):
    names = SPLITS[split] if split != "all" else SPLITS["train"] + SPLITS["val"] + SPLITS["test"]
    images = world_coins(world, split, size_px=4)
    assert images.class_names == tuple(names)
    assert images.class_counts.tolist() == [n_images(name) for name in names]
    assert colours(images) == expected_colours(names)
    before = {"train": [], "all": [], "val": ["train"], "test": ["train", "val"]}[split]
    n_before = sum(n_images(name) for part in before for name in SPLITS[part])
    assert images.images.is_contiguous()
    assert images.images.storage_offset() == n_before * 3 * 4 * 4  # a slice of the store, no copy


def test_world_coins_options(world):
    images = world_coins(world, "test", size_px=4, min_images=3)
    assert images.class_names == tuple(name for name in SPLITS["test"] if n_images(name) == 3)
    spain = {name for name in CLASSES if country(name) == "spain"}
    assert len(spain) == 8
    for split in ("test", "all"):
        names = world_coins(world, split, size_px=4).class_names
        without = world_coins(world, split, size_px=4, without_euro=True).class_names
        assert without == tuple(name for name in names if name not in spain)
        assert len(without) == len(names) - 8
    with pytest.raises(DataError, match="no class has 4 images; the largest has 3"):
        world_coins(world, "test", size_px=4, min_images=4)


@pytest.mark.parametrize("below", ["", "world_coins_211_84"])
def test_world_coins_unpacked(world, tmp_path, below):
    place = tmp_path / "world_coins" / below
    with zipfile.ZipFile(world / "world_coins" / "world_coins_211_84.zip") as archive:
        archive.extractall(place)
    unpacked, packed = world_coins(tmp_path, "val", size_px=4), world_coins(world, "val", size_px=4)
    assert unpacked.fingerprint == packed.fingerprint


def put_public(root: Path, first: int, below: str, validation: str) -> None:
    """Write the public layout, folders numbered from `first`: for each class two pictures and a duplicate of one."""
    place = root / "world_coins"
    text = {}
    for name in CLASSES:
        number, denomination = int(name[:3]), name[4:].removesuffix("_" + country(name)).replace("_", " ")
        text[str(number + 1)] = f"{denomination},Some currency,{country(name)}"
        folder = str(number + 1) if first else name[:3]
        write(place / below / "train" / folder / "1.png", number, 1)
        write(place / below / "test" / folder / "1.png", number, 1)
        write(place / below / validation / folder / "9.png", number, 9)
    (place / "cat_to_name.json").write_text(json.dumps(text))


@pytest.mark.parametrize(
    ("first", "below", "validation"), [(1, "coins/data", "validation"), (0, "", "val"), (1, "", "val")]
)
def test_world_coins_from_the_public_layout(tmp_path, first, below, validation):
    put_public(tmp_path, first, below, validation)
    for split, names in SPLITS.items():
        images = world_coins(tmp_path, split, size_px=4)
        assert images.class_names == tuple(names)
        assert images.labels.tolist() == [label for label in range(len(names)) for _ in range(2)]
        assert colours(images) == [(int(name[:3]), green) for name in names for green in (1, 9)]


def test_identical_pictures_stay_once_or_not_at_all(tmp_path):
    put_public(tmp_path, 1, "", "val")
    for number in ("1", "2"):  # the same picture in two classes
        write(tmp_path / "world_coins" / "train" / number / "2.png", 250, 250)
    write(tmp_path / "world_coins" / "train" / "2" / "3.png", 7, 7)
    images = world_coins(tmp_path, "train", size_px=4)
    assert images.class_names[:2] == ("000_1_Cent_australia", "001_2_Cents_australia")
    assert colours(images)[:7] == [(0, 1), (0, 9), (1, 1), (7, 7), (1, 9), (2, 1), (2, 9)]
    assert images.labels.tolist()[:7] == [0, 0, 1, 1, 1, 2, 2]
    assert len(images) == 2 * 125 + 1


def test_bad_public_layouts(tmp_path):
    with pytest.raises(DataError, match=r"world_coins_211_84.zip does not exist. Put it there"):
        world_coins(tmp_path, "test")
    put_public(tmp_path, 1, "", "val")
    names_file = tmp_path / "world_coins" / "cat_to_name.json"
    content = json.loads(names_file.read_text())
    for bad in ("{", "[]", '{"x": "a,b,c"}', '{"1": "a"}'):
        names_file.write_text(bad)
        with pytest.raises(DataError, match="is not as published"):
            world_coins(tmp_path, "test")
    names_file.write_text(json.dumps(content | {"212": "1 Crown,Crown,atlantis"}))
    with pytest.raises(
        DataError, match=r"not the file of these images: it has 212 .* the folders are 211 from 1 to 211"
    ):
        world_coins(tmp_path, "test")
    names_file.write_text(json.dumps(content | {"1": "1 Crown,Crown,atlantis"}))
    with pytest.raises(DataError, match=r"lacks classes \(1\): 000_1_Cent_australia"):
        world_coins(tmp_path, "test")
    names_file.unlink()
    with pytest.raises(DataError, match=r"cat_to_name.json does not exist"):
        world_coins(tmp_path, "test")


@pytest.mark.needs_data
def test_real_euro_coins(data_root):
    images = euro_coins(data_root, "test", size_px=150)  # the crops as they are, no resizing
    assert (images.n_classes, len(images), images.image_shape) == (8, 1291, (3, 150, 150))
    counts = {"1c": 77, "2c": 25, "5c": 284, "10c": 254, "20c": 227, "50c": 131, "1e": 248, "2e": 45}
    assert dict(zip(images.class_names, images.class_counts.tolist(), strict=True)) == counts
    assert len(set(images.groups)) == 40
    with zipfile.ZipFile(data_root / "euro_coins" / "euro_coins.zip") as archive:
        (coin,) = [name for name in archive.namelist() if name == "10c/train_10_15.jpg"]
        pixels = np.asarray(Image.open(io.BytesIO(archive.read(coin))).convert("RGB"))
    same = [row for row, image in enumerate(images.images) if (image.permute(1, 2, 0).numpy() == pixels).all()]
    assert [images.class_names[images.labels[row]] for row in same] == ["10c"]


@pytest.mark.needs_data
def test_real_world_coins(data_root):
    counts = json.loads((data_root / "world_coins" / "splits.json").read_text())["counts"]
    images = world_coins(data_root, "all")
    assert (images.n_classes, len(images), images.image_shape) == (211, 4620, (3, 84, 84))
    assert dict(zip(images.class_names, images.class_counts.tolist(), strict=True)) == counts
    assert world_coins(data_root, "all", min_images=20).n_classes == 133
    parts = [world_coins(data_root, split) for split in ("train", "val", "test")]
    assert [part.n_classes for part in parts] == [125, 28, 58]
    assert [len(part) for part in parts] == [sum(counts[c] for c in SPLITS[s]) for s in ("train", "val", "test")]


@pytest.mark.needs_data
def test_the_published_split_is_that_of_the_data(data_root):
    """The data set's own file names the country of each class."""
    content = json.loads((data_root / "world_coins" / "splits.json").read_text())
    assert content["classes"] == SPLITS
    (of_class,) = [value for key, value in content.items() if key not in ("countries", "classes", "counts")]
    check_disjoint(**{split: sorted({of_class[name] for name in names}) for split, names in SPLITS.items()})
