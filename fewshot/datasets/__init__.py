"""Data sets: one file and one registered function each; importing this package registers them."""

from fewshot.datasets import cifar_fs as cifar_fs
from fewshot.datasets import coins as coins
from fewshot.datasets import cub as cub
from fewshot.datasets import folder as folder
from fewshot.datasets import glyphs as glyphs
from fewshot.datasets import gtsrb as gtsrb
from fewshot.datasets import mini_imagenet as mini_imagenet
from fewshot.datasets import omniglot as omniglot
from fewshot.datasets import tiered_imagenet as tiered_imagenet
from fewshot.datasets.loading import DATASETS, find_data_root, list_datasets, load_dataset
from fewshot.images.imageset import ImageSet, check_disjoint

__all__ = ["DATASETS", "ImageSet", "check_disjoint", "find_data_root", "list_datasets", "load_dataset"]
