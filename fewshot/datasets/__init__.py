"""Data sets: one file, one registered function each; importing this package registers them."""

from fewshot.datasets import omniglot as omniglot
from fewshot.datasets.imageset import ImageSet, check_disjoint
from fewshot.datasets.loading import DATASETS, data_root, list_datasets, load_dataset

__all__ = ["DATASETS", "ImageSet", "check_disjoint", "data_root", "list_datasets", "load_dataset"]
