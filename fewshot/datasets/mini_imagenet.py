"""miniImageNet: 100 ImageNet classes with 600 images each, 84 x 84.

Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, Matching networks for one shot learning,
NeurIPS 2016, https://arxiv.org/abs/1606.04080; the 64/16/20 classes that later papers use are those of
Ravi, Larochelle, Optimization as a model for few-shot learning, ICLR 2017,
https://github.com/twitter-research/meta-learning-lstm.
"""

import logging
from pathlib import Path

from fewshot.datasets.loading import DATASETS, SPLITS, check_split, need
from fewshot.datasets.mini_imagenet_layouts import EXPECTED, NAME, find_layout
from fewshot.datasets.splits import load_published_split
from fewshot.errors import DataError
from fewshot.images.decode import Resize
from fewshot.images.imageset import ImageSet

IMAGE_PX = 84
N_IMAGES = {"train": 38_400, "val": 9_600, "test": 12_000}  # 600 per class
# Fingerprints at 84 px of the JPEG files that most public copies share, named and labelled as in Ravi and Larochelle's
# tables. Accuracies on other pixels can be compared, but not episode by episode.
KNOWN_COPY = {"train": "1d52600080025ab5", "val": "02b6689209539ec8", "test": "bd3a942431d049d6"}
logger = logging.getLogger(__name__)


@DATASETS.register("mini_imagenet")
def mini_imagenet(
    root: Path,
    split: str,
    size_px: int = IMAGE_PX,
    resize: Resize = "stretch",
    skip_bad_images: bool = False,
) -> ImageSet:
    """Load the 64 training, 16 validation or 20 test classes of miniImageNet.

    Below `<root>/mini_imagenet/` any of these is read, and the log says which: Ravi and Larochelle's
    tables `train.csv, val.csv, test.csv` (header `filename,label`) beside `images/` or `images.zip`; the
    pickles `mini-imagenet-cache-<split>.pkl`; the folders `<split>/<wnid>/`; the folders `<wnid>/` of all
    classes, there or one folder down (some copies divide each class in two); a zip archive of class
    folders. Only the split that is asked for needs to be there, and its classes must be the published
    ones, so a copy that divides the classes in another way gives the published splits all the same.

    Args:
        root: the folder that holds `mini_imagenet/`.
        split: "train", "val" or "test".
        size_px: images become 3 x `size_px` x `size_px`.
        resize: `stretch` makes any image square as the papers' preparation did; images that are
            84 x 84 already stay as they are.
        skip_bad_images: list unreadable images and go on without them.

    Returns:
        The images, classes as published, files of a class in natural order (of a pickle: in its order).

    Raises:
        DataError: nothing is there, classes are missing, or an image cannot be read.
    """
    check_split(NAME, split)
    folder = need(root / NAME, NAME, f"the folder of images ({EXPECTED})")
    layout = find_layout(folder, split)
    logger.info("%s/%s: %s in %s, %s images", NAME, split, layout.title, folder, f"{layout.n_images:,}")
    warn_of_other_count(NAME, split, layout.n_images, N_IMAGES)
    images = layout.read(size_px, resize, skip_bad_images).select(load_published_split(NAME)[split], split)
    if size_px == IMAGE_PX and layout.n_images == N_IMAGES[split]:
        same = "the pixels of" if images.fingerprint == KNOWN_COPY[split] else "other pixels than"
        logger.info("%s/%s has %s the 84 px copy that is known (%s)", NAME, split, same, KNOWN_COPY[split])
    return images


def describe_copy(folder: Path) -> str:
    """Say in a sentence which layout the splits in `folder` have, and how many images.

    Raises:
        DataError: a split is not there, or does not have the published number of images.
    """
    layouts = {split: find_layout(folder, split) for split in SPLITS}
    titles = "; ".join(dict.fromkeys(layout.title for layout in layouts.values()))
    counts = ", ".join(f"{split} {layout.n_images:,}" for split, layout in layouts.items())
    if any(layouts[split].n_images != N_IMAGES[split] for split in SPLITS):
        raise DataError(f"{titles}: {counts} images; published are 600 a class")
    return f"{titles}: {counts} images"


def warn_of_other_count(name: str, split: str, n_images: int, published: dict[str, int]) -> None:
    """Log a warning where the number of images is not the published one."""
    if n_images != published[split]:
        logger.warning(
            "%s/%s has %d images where %d are published: accuracies cannot be compared with papers",
            name, split, n_images, published[split],
        )  # fmt: skip
