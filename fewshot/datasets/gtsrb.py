"""GTSRB: 43 German traffic signs, in tracks: photographs of one physical sign that a car approaches.

Stallkamp, Schlipsing, Salmen, Igel, Man vs. computer: benchmarking machine learning algorithms for
traffic sign recognition, Neural Networks 32, 2012, https://benchmark.ini.rub.de/gtsrb_dataset.html.
All classes are test classes, as in Meta-Dataset's Traffic Sign (Triantafillou et al., ICLR 2020,
https://arxiv.org/abs/1903.03096).
"""

import re
from pathlib import Path

from fewshot.datasets.loading import DATASETS, check_split, need
from fewshot.datasets.splits import load_published_split
from fewshot.errors import DataError
from fewshot.images.decode import Resize
from fewshot.images.imageset import ImageSet
from fewshot.images.listing import ImageFile, list_few, list_visible, make_image_set

FRAME = re.compile(r"(\d{5})_(\d{5})\.ppm")  # track and frame


@DATASETS.register("gtsrb")
def gtsrb(
    root: Path,
    split: str,
    size_px: int = 84,
    resize: Resize = "stretch",
    every: int = 3,
    skip_bad_images: bool = False,
) -> ImageSet:
    """Load traffic signs, with the track of each image as its group.

    Reads `<root>/gtsrb/GTSRB/Final_Training/Images/<00000 to 00042>/<track>_<frame>.ppm`, as the
    archive of the training images unpacks. The archive's test images have no tracks and are not read.
    Images of one track show one sign, seconds apart: episodes whose support and queries share tracks
    measure how well a sign is found again. `disjoint_groups` of an episode keeps them apart.

    Args:
        root: the folder that holds `gtsrb/`.
        split: "test", which has all 43 classes.
        size_px: images become 3 x `size_px` x `size_px`; the files have 15 to 250 pixels a side.
        resize: what happens to images that are not square; see `decode_image`.
        every: use every so many frames of a track, from the first on; a track has 30 frames (one has 29).
        skip_bad_images: list unreadable images and go on without them.

    Returns:
        The images, classes and files in the archive's order; `groups` are "<class folder>/<track>".

    Raises:
        DataError: a class is missing, a file has another name, or an image cannot be read.
    """
    check_split("gtsrb", split, ("test",))
    if not isinstance(every, int) or every < 1:
        raise DataError(f"gtsrb: every is a number of frames, at least 1, got {every!r}")
    folder = need(root / "gtsrb" / "GTSRB" / "Final_Training" / "Images", "gtsrb", "the folder of training images")
    names = load_published_split("gtsrb")["test"]
    expected = {f"{number:05d}": name for number, name in enumerate(names)}
    found = {path.name: path for path in list_visible(folder) if path.is_dir()}
    missing, foreign = sorted(expected.keys() - found), sorted(found.keys() - expected)
    if missing or foreign:
        lists = f"missing class folders: {list_few(missing) or 'none'}; not of GTSRB: {list_few(foreign) or 'none'}"
        raise DataError(f"{folder}: {lists}")
    files = [file for name in expected for file in _list_frames(found[name], expected[name], every)]
    images = make_image_set("gtsrb", files, 3, size_px, resize, skip_bad_images=skip_bad_images)
    return images.select(names, split)


def _list_frames(folder: Path, class_name: str, every: int) -> list[ImageFile]:
    """List every so many frames of each track of a class, in order."""
    paths = [path for path in list_visible(folder) if path.suffix == ".ppm"]
    strange = [path.name for path in paths if not FRAME.fullmatch(path.name)]
    if strange or not paths:
        raise DataError(f"{folder}: files must be <track>_<frame>.ppm, found {list_few(strange) or 'none'}")
    tracks: dict[str, list[Path]] = {}
    for path in sorted(paths):
        tracks.setdefault(path.name.split("_")[0], []).append(path)
    return [
        ImageFile(class_name, path, group=f"{folder.name}/{track}")
        for track, frames in tracks.items()
        for path in frames[::every]
    ]
