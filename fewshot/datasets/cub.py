"""CUB: 200 bird species, 11,788 photographs, for fine-grained few-shot classification.

Wah, Branson, Welinder, Perona, Belongie, The Caltech-UCSD Birds-200-2011 dataset, 2011,
https://www.vision.caltech.edu/datasets/cub_200_2011/. The split is the rule of Chen, Liu, Kira,
Wang, Huang, A closer look at few-shot classification, ICLR 2019,
https://github.com/wyharveychen/CloserLookFewShot (filelists/CUB/write_CUB_filelist.py).
"""

import io
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from fewshot.datasets.loading import DATASETS, check_split, need
from fewshot.errors import DataError
from fewshot.images.decode import DECODER_VERSION, Resize, check_pixel_options, decode_image
from fewshot.images.imageset import ImageSet
from fewshot.images.listing import ImageFile, classes_of, list_class_files, list_few
from fewshot.images.store import open_store, stamp_file

IMAGE_PX = 84
N_CLASSES = 200
Box = tuple[float, float, float, float]  # left, top, width, height in pixels


@DATASETS.register("cub")
def cub(
    root: Path,
    split: str,
    size_px: int = IMAGE_PX,
    resize: Resize = "crop",
    crop_to_box: bool = False,
    skip_bad_images: bool = False,
) -> ImageSet:
    """Birds of CUB-200-2011: train/val/test of 100/50/50 species, 3 x `size_px` x `size_px`.

    Args:
        root: the folder that holds `cub/`.
        split: "train", "val" or "test".
        size_px: side of the images, in pixels.
        resize: what happens to images that are not square; see `decode_image`.
        crop_to_box: first crop each photograph to the bird's box in `bounding_boxes.txt` (some papers do so, CloserLook
            does not).
        skip_bad_images: list unreadable images and go on without them.

    Reads `<root>/cub/CUB_200_2011/images/<001.Black_footed_Albatross>/` as the archive unpacks, or
    `<root>/cub/images/`.
    Of the sorted class folders, numbered from 0, folder i belongs to train if i % 2 = 0, to val if i % 4 = 1 and to
    test if i % 4 = 3. All 200 folders must exist, and every file that `images.txt` lists if it exists beside `images/`.
    """
    check_split("cub", split)
    check_pixel_options(3, size_px, resize)
    base = next((b for b in (root / "cub" / "CUB_200_2011", root / "cub") if (b / "images").is_dir()), None)
    what = "the folder of images (this one, or cub/images)"
    base = base or need(root / "cub" / "CUB_200_2011" / "images", "cub", what).parent
    files = list_class_files(base / "images")
    classes = _list_species(base / "images", files)
    listed = _read_listed(base, files)
    chosen = [name for i, name in enumerate(classes) if ("train", "val", "train", "test")[i % 4] == split]
    files = [file for file in files if file.class_name in set(chosen)]
    boxes = _read_boxes(base, listed) if crop_to_box else {}
    store = open_store(
        "cub",
        [
            DECODER_VERSION,
            resize,
            [[*stamp_file(file.path, base), boxes.get(_name_in_table(file))] for file in files],
        ],
        files,
        partial(_decode, boxes=boxes, size_px=size_px, resize=resize),
        (3, size_px, size_px),
        skip_bad_images=skip_bad_images,
    )
    labels = [chosen.index(files[row].class_name) for row in store.rows]
    return ImageSet(store.images, labels, chosen, name="cub", split=split, digests=store.digests)


def _list_species(folder: Path, files: list[ImageFile]) -> list[str]:
    """List the 200 class folders in order and check that their names begin with 001. to 200."""
    classes = sorted(classes_of(files))
    numbers = [name[:4] for name in classes]
    expected = [f"{number:03d}." for number in range(1, N_CLASSES + 1)]
    if numbers != expected:
        missing = [number + "*" for number in expected if number not in numbers]
        foreign = [name for name in classes if name[:4] not in expected or numbers.count(name[:4]) > 1]
        n_there = N_CLASSES - len(missing)
        message = f"{folder}: {n_there} of the {N_CLASSES} class folders 001.* to 200.* are there"
        message += f"; missing: {list_few(missing)}" if missing else ""
        raise DataError(message + (f"; not expected: {list_few(foreign)}" if foreign else ""))
    return classes


def _name_in_table(file: ImageFile) -> str:
    return f"{file.path.parent.name}/{file.path.name}"


def _read_table(path: Path, n_columns: int) -> list[list[str]]:
    """Read the rows of one of CUB's text files, whose cells are separated by spaces."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != n_columns:
            raise DataError(f"{path}: line {number} has {len(row)} of {n_columns} cells: {' '.join(row)!r}")
    return rows


def _read_listed(base: Path, files: list[ImageFile]) -> dict[str, str]:
    """Read {image number: class/file} from `images.txt` and check it against the files; {} if there is none."""
    if not (base / "images.txt").exists():
        return {}
    listed = dict(_read_table(base / "images.txt", 2))
    present, named = {_name_in_table(file) for file in files}, set(listed.values())
    missing, foreign = sorted(named - present), sorted(present - named)
    if missing or foreign:
        n_there = len(named) - len(missing)
        message = f"{base / 'images'}: {n_there} of the {len(named)} files of images.txt are there"
        message += f"; missing: {list_few(missing)}" if missing else ""
        raise DataError(message + (f"; not listed: {list_few(foreign)}" if foreign else ""))
    return listed


def _read_boxes(base: Path, listed: dict[str, str]) -> dict[str, Box]:
    """Read {class/file: box} for every listed image."""
    need(base / "images.txt", "cub", "the list of images, needed for crop_to_box,")
    path = need(base / "bounding_boxes.txt", "cub", "the list of boxes, needed for crop_to_box,")
    rows = _read_table(path, 5)
    try:
        boxes = {number: tuple(map(float, box)) for number, *box in rows}
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    without = [name for number, name in listed.items() if number not in boxes]
    flat = [name for number, name in listed.items() if number in boxes and min(boxes[number][2:]) < 1]
    if without or flat:
        raise DataError(f"{path}: no box, or one thinner than a pixel, for {list_few(without + flat)}")
    return {name: boxes[number] for number, name in listed.items()}


def _decode(file: ImageFile, boxes: dict[str, Box], size_px: int, resize: Resize) -> np.ndarray:
    """Decode an image to uint8 (3, size_px, size_px), cropped first to its box if it is in `boxes`."""
    box = boxes.get(_name_in_table(file))
    if box is None:
        return decode_image(file.path, str(file.path), 3, size_px, resize)
    try:
        with Image.open(file.path) as opened:
            image = opened.convert("RGB")
    except Exception as error:  # Pillow's parsers raise many kinds on damaged files
        raise DataError(f"{file.path}: the image is damaged or cut short ({error})") from error
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(image.width, round(box[0] + box[2])), min(image.height, round(box[1] + box[3]))
    if right <= left or bottom <= top:
        raise DataError(f"{file.path}: its box {box} lies outside the {image.width} x {image.height} image")
    cut = io.BytesIO()
    image.crop((left, top, right, bottom)).save(cut, "PPM")  # lossless
    return decode_image(cut.getvalue(), str(file.path), 3, size_px, resize)
