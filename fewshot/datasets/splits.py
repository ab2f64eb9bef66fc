"""Read published class splits from the JSON files in the folder `class_lists`."""

import json
from importlib.resources import files

from fewshot.errors import DataError
from fewshot.images.imageset import check_disjoint


def load_published_split(name: str) -> dict[str, list[str]]:
    """Read {"train": class names, "val": …, "test": …} from `class_lists/<name>.json`; check them to be disjoint.

    Each file contains {"source": where the list is from, "splits": {split: [class names]}}.
    """
    file = files("fewshot.datasets.class_lists") / f"{name}.json"
    if not file.is_file():
        raise DataError(f"there is no published split {name!r}: {file} does not exist")
    splits = json.loads(file.read_text(encoding="utf-8"))["splits"]
    check_disjoint(**splits)
    return splits
