"""Published class splits, read from the JSON files of `data/splits` (installed as `fewshot.class_lists`)."""

import json
from importlib.resources import files

from fewshot.datasets.imageset import check_disjoint
from fewshot.errors import DataError


def published_split(name: str) -> dict[str, list[str]]:
    """{"train": class names, "val": …, "test": …} of `data/splits/<name>.json`, checked to be disjoint.

    Each file holds {"source": where the list is from, "splits": {split: [class names]}}.
    """
    file = files("fewshot.class_lists") / f"{name}.json"
    if not file.is_file():
        raise DataError(f"there is no published split {name!r}: {file} does not exist")
    splits = json.loads(file.read_text(encoding="utf-8"))["splits"]
    check_disjoint(**splits)
    return splits
