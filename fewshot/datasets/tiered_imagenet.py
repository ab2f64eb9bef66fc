"""tieredImageNet: 608 ImageNet classes, split by superclass so that test classes differ much from training classes.

Ren, Triantafillou, Ravi, Snell, Swersky, Tenenbaum, Larochelle, Zemel, Meta-learning for
semi-supervised few-shot classification, ICLR 2018, https://arxiv.org/abs/1803.00676,
https://github.com/renmengye/few-shot-ssl-public.
"""

from pathlib import Path

from fewshot.datasets.loading import DATASETS, check_split, need
from fewshot.datasets.mini_imagenet import IMAGE_PX, warn_of_other_count
from fewshot.datasets.mini_imagenet_layouts import find_class_files
from fewshot.datasets.splits import load_published_split
from fewshot.images.decode import Resize
from fewshot.images.imageset import ImageSet
from fewshot.images.listing import make_image_set

N_IMAGES = {"train": 448_695, "val": 124_261, "test": 206_209}  # the paper's table of the data set


@DATASETS.register("tiered_imagenet")
def tiered_imagenet(
    root: Path,
    split: str,
    size_px: int = IMAGE_PX,
    resize: Resize = "stretch",
    skip_bad_images: bool = False,
) -> ImageSet:
    """tieredImageNet: train/val/test of 351/97/160 classes, 3 x `size_px` x `size_px`.

    Args:
        root: the folder that holds `tiered_imagenet/`.
        split: "train", "val" or "test".
        size_px: side of the images, in pixels.
        resize: `stretch` makes any image square as the authors' preparation did.
        skip_bad_images: list unreadable images and go on without them.

    Reads the folders `<root>/tiered_imagenet/<split>/<wnid>/`; their names must be the published ones. Only the
    requested split needs to exist. At 84 x 84 the packed pixels of train, val and test take 9.5, 2.6 and 4.4 GB.
    Order: classes as published, files in natural order.
    """
    check_split("tiered_imagenet", split)
    folder = need(root / "tiered_imagenet", "tiered_imagenet", "the folder of images")
    wnids = load_published_split("tiered_imagenet")[split]
    need(folder / split, "tiered_imagenet", "the folder of this split, with one of images for each WordNet number,")
    files = find_class_files("tiered_imagenet", folder / split, wnids)
    warn_of_other_count("tiered_imagenet", split, len(files), N_IMAGES)
    images = make_image_set("tiered_imagenet", files, 3, size_px, resize, skip_bad_images=skip_bad_images)
    return images.select(wnids, split)
