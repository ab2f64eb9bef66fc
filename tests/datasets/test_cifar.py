"""CIFAR-FS and FC100: both layouts, refused pickles, and the real images."""

import hashlib
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.datasets import cifar_fs, load_dataset, pickles
from fewshot.datasets.splits import load_published_split
from fewshot.errors import DataError, UnknownNameError

PARTS = ("train", "val", "test")
CLASSES = [c for names in load_published_split("cifar_fs").values() for c in names]


@pytest.fixture
def small(monkeypatch):
    """CIFAR-100 with 5 + 1 images per class instead of 500 + 100."""
    sizes = {"N_TRAIN": 5, "N_TEST": 1, "IMAGES_PER_CLASS": 6, "MOSAIC_ROWS": 2, "MOSAIC_COLUMNS": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(cifar_fs, name, value)


def invented_images():
    """{class: (6, 3, 32, 32)}; pixel (0, 0) of the red channel is the class number, of green the tile."""
    images = {c: np.zeros((6, 3, 32, 32), np.uint8) for c in CLASSES}
    for number, c in enumerate(CLASSES):
        images[c][:, 0, 0, 0] = number
        images[c][:, 1, 0, 0] = np.arange(6)
        images[c][:, 2] = np.arange(32, dtype=np.uint8)  # a ramp along x: rows and columns differ
    return images


def write_mosaics(path: Path, images, n_rows: int, n_columns: int, hashes=None, leave_out=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    true_hashes = {}
    with zipfile.ZipFile(path, "w") as archive:
        for c, tiles in images.items():
            mosaic = np.zeros((n_rows * 32, n_columns * 32, 3), np.uint8)
            for i, tile in enumerate(tiles):
                y, x = 32 * (i // n_columns), 32 * (i % n_columns)
                mosaic[y : y + 32, x : x + 32] = tile.transpose(1, 2, 0)
            true_hashes[c] = hashlib.sha256(mosaic.tobytes()).hexdigest()
            buffer = io.BytesIO()
            Image.fromarray(mosaic).save(buffer, "WEBP", lossless=True, quality=0, method=0, exact=True)
            if c not in leave_out:
                archive.writestr(f"{c}.webp", buffer.getvalue())
        if hashes != "missing":
            archive.writestr("sha256_of_pixels.json", json.dumps(true_hashes | (hashes or {})))


class Python2Pickle:
    """Writes protocol-2 pickles as Python 2 and an early numpy did: strings are bytes."""

    def string(self, text: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(text)) + text

    def integer(self, value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def list(self, pieces: list[bytes]) -> bytes:
        return b"](" + b"".join(pieces) + b"e"

    def array(self, array: np.ndarray) -> bytes:
        zero, one, minus = self.integer(0), self.integer(1), self.integer(-1)
        dtype = b"cnumpy\ndtype\n" + self.string(b"u1") + zero + one + b"\x87R"
        dtype += b"(" + self.integer(3) + self.string(b"|") + b"NNN" + minus + minus + zero + b"tb"
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + zero + b"\x85" + self.string(b"b")
        shape = b"(" + b"".join(map(self.integer, array.shape)) + b"t"
        return empty + b"\x87R(" + one + shape + dtype + b"\x89" + self.string(array.tobytes()) + b"tb"

    def dictionary(self, pairs: dict[bytes, bytes]) -> bytes:
        return b"\x80\x02}(" + b"".join(self.string(k) + v for k, v in pairs.items()) + b"u."


def write_pickles(folder: Path, images, n_train: int, monkeypatch, seed: int = 0):
    """Write torchvision's three files with mixed classes, and replace the published md5 sums by theirs."""
    folder.mkdir(parents=True)
    out = Python2Pickle()
    names = sorted(images)
    generator = np.random.default_rng(seed)
    files = {"meta": {b"fine_label_names": out.list([out.string(n.encode()) for n in names])}}
    for part, tiles in (("train", slice(None, n_train)), ("test", slice(n_train, None))):
        data = np.concatenate([images[n][tiles].reshape(-1, 3072) for n in names])
        labels = np.repeat(np.arange(len(names)), len(data) // len(names))
        order = generator.permutation(len(data))
        files[part] = {
            b"data": out.array(data[order]),
            b"fine_labels": out.list([out.integer(int(label)) for label in labels[order]]),
        }
    for name, pairs in files.items():
        (folder / name).write_bytes(out.dictionary(pairs))
    trust(folder, monkeypatch)


def trust(folder: Path, monkeypatch):
    md5 = {f: hashlib.md5((folder / f).read_bytes()).hexdigest() for f in ("train", "test", "meta")}
    monkeypatch.setattr(cifar_fs, "PICKLE_MD5", md5)


@pytest.mark.usefixtures("small")
def test_order_is_class_by_class_training_part_first_each_part_by_digest(tmp_path):
    images = invented_images()
    write_mosaics(tmp_path / "cifar_fs" / "cifar100_webp.zip", images, 2, 3)
    test = load_dataset("cifar_fs", "test", tmp_path)
    assert test.class_names == tuple(load_published_split("cifar_fs")["test"])
    assert test.labels.tolist() == np.repeat(np.arange(20), 6).tolist()
    for label, c in enumerate(test.class_names):
        rows = test.images[label * 6 : label * 6 + 6].numpy()
        digest = [hashlib.blake2b(tile.tobytes(), digest_size=8).digest() for tile in images[c]]
        expected = [*sorted(range(5), key=digest.__getitem__), 5]
        assert rows[:, 1, 0, 0].tolist() == expected
        np.testing.assert_array_equal(rows, images[c][expected])
    assert test.groups is None


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("place", ["cifar_fs/cifar-100-python", "cifar-100-python"])
def test_pickles_give_the_same_set_as_mosaics_whatever_the_file_order(tmp_path, monkeypatch, place):
    images = invented_images()
    write_mosaics(tmp_path / "a" / "cifar_fs" / "cifar100_webp.zip", images, 2, 3)
    write_pickles(tmp_path / "b" / place, images, 5, monkeypatch)
    for name in ("cifar_fs", "fc100"):
        for split in PARTS:
            a, b = (load_dataset(name, split, tmp_path / root) for root in "ab")
            assert a.fingerprint == b.fingerprint
            np.testing.assert_array_equal(a.images.numpy(), b.images.numpy())


@pytest.mark.usefixtures("small")
def test_splits_of_cifar_fs_are_slices_of_one_store_and_fc100_uses_it_too(tmp_path):
    images = invented_images()
    write_mosaics(tmp_path / "cifar_fs" / "cifar100_webp.zip", images, 2, 3)
    train, val, test = (load_dataset("cifar_fs", split, tmp_path) for split in PARTS)
    numbers = [set(s.images[:, 0, 0, 0].tolist()) for s in (train, val, test)]
    assert numbers == [set(range(64)), set(range(64, 80)), set(range(80, 100))]
    fc = load_dataset("fc100", "val", tmp_path)
    for label, c in enumerate(fc.class_names):
        assert set(fc.images[fc.labels == label][:, 0, 0, 0].tolist()) == {CLASSES.index(c)}


class WritesAFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.usefixtures("small")
def test_a_pickle_that_would_run_code_is_refused_even_with_a_trusted_md5(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-100-python"
    write_pickles(folder, invented_images(), 5, monkeypatch)
    pickle.loads(pickle.dumps(WritesAFile(tmp_path / "control")))
    assert (tmp_path / "control").exists()  # this is what the attack does when nothing stops it
    (folder / "train").write_bytes(pickle.dumps({"data": WritesAFile(tmp_path / "attacked")}))
    with pytest.raises(DataError, match="md5"):
        load_dataset("cifar_fs", "test", tmp_path)
    trust(folder, monkeypatch)
    with pytest.raises(DataError, match=r"train: refused or damaged pickle: it asks for pathlib"):
        load_dataset("cifar_fs", "test", tmp_path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "numpy\nload", "numpy\nndarray.tofile", "_codecs\nlookup"]
)
def test_only_what_an_array_needs_can_be_unpickled(name):
    content = b"\x80\x04c" + name.encode() + b"\n."
    with pytest.raises(pickle.UnpicklingError, match="do not need"):
        pickles.ArraysOnly(io.BytesIO(content), encoding="latin1").load()


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_this_numpy_can_be_unpickled(protocol):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    content = pickle.dumps({"data": array, "rows": [array.max()]}, protocol)
    value = pickles.ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    np.testing.assert_array_equal(value["data"], array)
    assert value["rows"] == [5]


def test_bytes_may_be_named_as_latin1_and_by_no_other_codec():
    content = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R."
    with pytest.raises(KeyError, match="rot13"):
        pickles.ArraysOnly(io.BytesIO(content), encoding="latin1").load()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "test").unlink(), "the file 'test' of CIFAR-100 is missing"),
        (lambda f: (f / "test").write_bytes(b"\x80\x02}"), "test: refused or damaged pickle"),
        (lambda f: (f / "test").write_bytes(pickle.dumps([1])), "expected a dictionary, got list"),
        (lambda f: (f / "test").write_bytes(pickle.dumps({})), "'data' is object"),
        (
            lambda f: (f / "meta").write_bytes((f / "meta").read_bytes().replace(b"worm", b"wyrm")),
            "its 100 class names",
        ),
        (
            lambda f: (f / "test").write_bytes(
                pickle.dumps({"data": np.zeros((100, 3072), np.uint8), "fine_labels": [0] * 100})
            ),
            "a class does not have 1 images",
        ),
    ],
)
def test_damaged_pickles_are_named(tmp_path, monkeypatch, damage, message):
    folder = tmp_path / "cifar-100-python"
    write_pickles(folder, invented_images(), 5, monkeypatch)
    damage(folder)
    if (folder / "test").exists():
        trust(folder, monkeypatch)
    with pytest.raises(DataError, match=message):
        load_dataset("cifar_fs", "test", tmp_path)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hashes": {"wolf": "0" * 64}}, r"pixels of wolf.webp have sha256 \w{64}, .* says 0000"),
        ({"hashes": "missing"}, "sha256_of_pixels.json is missing"),
        ({"leave_out": ["wolf"]}, "wolf.webp"),
        ({"n_rows": 3}, r"apple.webp has 96 x 96 px, expected 96 x 64 px"),
    ],
)
def test_damaged_mosaics_are_named(tmp_path, options, message):
    path = tmp_path / "cifar_fs" / "cifar100_webp.zip"
    write_mosaics(path, invented_images(), **({"n_rows": 2, "n_columns": 3} | options))
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("cifar_fs", "train", tmp_path)
    assert str(path) in str(caught.value)


def test_nothing_there_a_foreign_file_and_an_unknown_split(tmp_path):
    with pytest.raises(DataError, match=r"cifar-100-python does not exist.*get_data.py --dataset fc100"):
        load_dataset("fc100", "train", tmp_path)
    with pytest.raises(UnknownNameError, match=r"'tran'.*Did you mean 'train'"):
        load_dataset("cifar_fs", "tran", tmp_path)
    (tmp_path / "cifar_fs").mkdir()
    (tmp_path / "cifar_fs" / "cifar100_webp.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="no readable zip archive"):
        load_dataset("cifar_fs", "train", tmp_path)


@pytest.mark.parametrize(("name", "sizes"), [("cifar_fs", (64, 16, 20)), ("fc100", (60, 20, 20))])
def test_published_splits_cover_the_100_classes_once(name, sizes):
    splits = load_published_split(name)
    assert tuple(len(splits[s]) for s in PARTS) == sizes
    assert sorted(c for s in PARTS for c in splits[s]) == sorted(CLASSES)


@pytest.mark.needs_data
@pytest.mark.parametrize(("name", "sizes"), [("cifar_fs", (64, 16, 20)), ("fc100", (60, 20, 20))])
def test_real_splits_are_disjoint_with_600_images_a_class(data_root, name, sizes):
    sets = [load_dataset(name, split, data_root) for split in PARTS]
    assert tuple(s.n_classes for s in sets) == sizes
    assert len({c for s in sets for c in s.class_names}) == 100
    for s in sets:
        assert set(s.class_counts.tolist()) == {600}
        assert s.image_shape == (3, 32, 32)


@pytest.mark.needs_data
def test_real_fc100_splits_share_no_superclass(data_root):
    coarse = json.loads((data_root / "cifar_fs" / "splits.json").read_text())["fine_to_coarse"]
    parts = [{coarse[c] for c in load_published_split("fc100")[split]} for split in PARTS]
    assert [len(p) for p in parts] == [12, 4, 4]
    assert len(set.union(*parts)) == 20


@pytest.mark.needs_data
@pytest.mark.parametrize(("tile", "rows"), [(31, slice(0, 500)), (599, slice(500, 600))])
def test_a_real_mosaic_tile_is_a_row_of_its_class(data_root, tile, rows):
    with zipfile.ZipFile(data_root / "cifar_fs" / "cifar100_webp.zip") as archive:
        mosaic = np.asarray(Image.open(io.BytesIO(archive.read("whale.webp"))).convert("RGB"))
    y, x = 32 * (tile // 30), 32 * (tile % 30)
    expected = mosaic[y : y + 32, x : x + 32].transpose(2, 0, 1)
    test = load_dataset("cifar_fs", "test", data_root)
    whales = test.images[test.labels == test.class_names.index("whale")].numpy()[rows]
    assert (whales == expected).all((1, 2, 3)).sum() == 1


@pytest.mark.needs_data
def test_real_images_give_the_same_set_from_pickles(data_root, tmp_path, monkeypatch):
    sets = {split: load_dataset("cifar_fs", split, data_root) for split in PARTS}
    images = {c: s.images[s.labels == label].numpy() for s in sets.values() for label, c in enumerate(s.class_names)}
    write_pickles(tmp_path / "cifar_fs" / "cifar-100-python", images, 500, monkeypatch, seed=1)
    for split, mosaics in sets.items():
        assert load_dataset("cifar_fs", split, tmp_path).fingerprint == mosaics.fingerprint
