"""CIFAR-FS and FC100: the 100 classes of CIFAR-100, 600 images each, split in two published ways.

CIFAR-FS: Bertinetto, Henriques, Torr, Vedaldi, Meta-learning with differentiable closed-form
solvers, ICLR 2019, https://arxiv.org/abs/1805.08136: 64/16/20 classes drawn at random.
FC100: Oreshkin, Rodriguez, Lacoste, TADAM, NeurIPS 2018, https://arxiv.org/abs/1805.10123:
60/20/20 classes, no superclass in two splits.
Images: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.datasets.loading import DATASETS, check_split, need
from fewshot.datasets.pickles import unpickle
from fewshot.datasets.splits import load_published_split
from fewshot.errors import DataError
from fewshot.images.decode import open_zip, read_member
from fewshot.images.formats import open_image
from fewshot.images.imageset import ImageSet, digest_images
from fewshot.images.store import PackedStore, open_store, stamp_file
from fewshot.runtime.files import read_regular

N_TRAIN, N_TEST = 500, 100  # images of a class in CIFAR-100's own two parts
IMAGES_PER_CLASS = N_TRAIN + N_TEST
IMAGE_PX = 32
MOSAIC_ROWS, MOSAIC_COLUMNS = 20, 30
MOSAIC_HASHES = "sha256_of_pixels.json"

# Published by torchvision (torchvision/datasets/cifar.py, class CIFAR100).
PICKLE_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}


@DATASETS.register("cifar_fs")
def cifar_fs(root: Path, split: str) -> ImageSet:
    """CIFAR-FS, 3 x 32 x 32: train/val/test of 64/16/20 classes with 600 images each.

    Reads `<root>/cifar_fs/cifar100_webp.zip` (100 lossless mosaics), or the folder `cifar-100-python` as torchvision
    unpacks it, in `<root>/cifar_fs/` or in `<root>/`. Both give the same set: within a class, first the 500 images of
    CIFAR-100's training part, then the 100 of its test part. Each part is sorted by image digest, because the order in
    the archives differs between copies.
    """
    return _load_split("cifar_fs", root, split)


@DATASETS.register("fc100")
def fc100(root: Path, split: str) -> ImageSet:
    """FC100, 3 x 32 x 32: train/val/test of 60/20/20 classes with 600 images each.

    Reads the same files as `cifar_fs`, and sorts the images of a class in the same way.
    """
    return _load_split("fc100", root, split)


def _load_split(name: str, root: Path, split: str) -> ImageSet:
    check_split(name, split)
    classes = [c for part in load_published_split("cifar_fs").values() for c in part]  # by split
    store = _open_packed_store(name, root, classes)
    labels = np.repeat(np.arange(len(classes)), IMAGES_PER_CLASS)
    origins = [f"cifar100/{class_name}" for class_name in classes]
    everything = ImageSet(store.images, labels, classes, name=name, digests=store.digests, origins=origins)
    return everything.select(load_published_split(name)[split], split)


def _open_packed_store(name: str, root: Path, classes: list[str]) -> PackedStore:
    """Open the packed store of all 100 classes, 600 rows each, made from whichever layout exists."""
    shape = (3, IMAGE_PX, IMAGE_PX)
    mosaics = root / "cifar_fs" / "cifar100_webp.zip"
    if mosaics.exists():
        hashes = _read_mosaic_hashes(mosaics)
        return open_store(
            "cifar100",
            [stamp_file(mosaics), classes],
            classes,
            lambda class_name: _sort_canonically(_cut_mosaic(mosaics, class_name, hashes)),
            shape,
            images_per_block=IMAGES_PER_CLASS,
        )
    folders = [root / "cifar_fs" / "cifar-100-python", root / "cifar-100-python"]
    folder = next((f for f in folders if f.exists()), folders[0])
    need(folder, name, "CIFAR-100 (cifar100_webp.zip, or the folder cifar-100-python)")
    files = [need(folder / part, name, f"the file {part!r} of CIFAR-100") for part in PICKLE_MD5]
    return open_store(
        "cifar100",
        [[stamp_file(file) for file in files], classes],
        [folder],
        lambda folder: _read_pickles(folder, classes),
        shape,
        images_per_block=len(classes) * IMAGES_PER_CLASS,
    )


def _sort_canonically(images: np.ndarray) -> np.ndarray:
    """Sort the 600 images of a class by image digest, the training part and the test part separately."""
    keys = [digest.tobytes() for digest in digest_images(images)]
    order = sorted(range(len(images)), key=lambda i: (i >= N_TRAIN, keys[i]))
    return images[order]


def _read_mosaic_hashes(path: Path) -> dict[str, str]:
    if MOSAIC_HASHES not in open_zip(path).namelist():
        raise DataError(f"{path}: {MOSAIC_HASHES} is missing")
    content = read_member(path, MOSAIC_HASHES)
    try:
        hashes = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {MOSAIC_HASHES} is unreadable ({error})") from error
    if not isinstance(hashes, dict):
        raise DataError(f"{path}: {MOSAIC_HASHES} must hold a hash for each class")
    return hashes


def _cut_mosaic(path: Path, class_name: str, hashes: dict[str, str]) -> np.ndarray:
    """Check the pixels of a class's mosaic against their hash, and cut it into images (600, 3, 32, 32)."""
    member = f"{class_name}.webp"
    shape = (MOSAIC_ROWS * IMAGE_PX, MOSAIC_COLUMNS * IMAGE_PX, 3)
    image = open_image(read_member(path, member), f"{path}: {member}")
    if image.size != shape[1::-1]:
        raise DataError(f"{path}: {member} has {image.width} x {image.height} px, expected {shape[1]} x {shape[0]} px")
    try:
        pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's parsers raise many kinds on damaged files
        raise DataError(f"{path}: {member}: the image is damaged or cut short ({error})") from error
    if pixels.shape != shape:
        raise DataError(f"{path}: {member} has shape {pixels.shape}, expected {shape}")
    found = hashlib.sha256(pixels.tobytes()).hexdigest()
    if found != hashes.get(class_name):
        raise DataError(
            f"{path}: the pixels of {member} have sha256 {found}, {MOSAIC_HASHES} says {hashes.get(class_name)}"
        )
    tiles = pixels.reshape(MOSAIC_ROWS, IMAGE_PX, MOSAIC_COLUMNS, IMAGE_PX, 3)
    return tiles.transpose(0, 2, 4, 1, 3).reshape(IMAGES_PER_CLASS, 3, IMAGE_PX, IMAGE_PX)


def _read_pickle(path: Path) -> dict[str, Any]:
    """Check the md5 of one of the three files that torchvision unpacks, and read its dictionary."""
    content = read_regular(path, str(path))
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != PICKLE_MD5[path.name]:
        raise DataError(f"{path} has md5 {found}, published is {PICKLE_MD5[path.name]}; fetch it again")
    return unpickle(content, path)


def _read_pickles(folder: Path, classes: list[str]) -> np.ndarray:
    """Read all images, (60000, 3, 32, 32), in the order of `classes`."""
    names = np.array(_read_pickle(folder / "meta").get("fine_label_names", []))
    if sorted(names) != sorted(classes):
        raise DataError(f"{folder / 'meta'}: its {len(names)} class names are not the 100 of CIFAR-100")
    parts = []
    for part, n_images in (("train", N_TRAIN), ("test", N_TEST)):
        content = _read_pickle(folder / part)
        images, labels = np.asarray(content.get("data")), np.asarray(content.get("fine_labels"))
        if images.dtype != np.uint8 or images.shape != (len(classes) * n_images, 3 * IMAGE_PX**2):
            raise DataError(f"{folder / part}: 'data' is {images.dtype} {images.shape}")
        rows = [np.flatnonzero(labels == list(names).index(c)) for c in classes]
        if any(len(r) != n_images for r in rows):
            raise DataError(f"{folder / part}: a class does not have {n_images} images")
        parts.append([images[r].reshape(n_images, 3, IMAGE_PX, IMAGE_PX) for r in rows])
    return np.concatenate([_sort_canonically(np.concatenate(both)) for both in zip(*parts, strict=True)])
