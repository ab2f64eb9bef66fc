"""Corrections of classes that a person has made on a page, and the photographs that a classifier is fitted to then."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fewshot.datasets.folder import assign_groups
from fewshot.errors import DataError
from fewshot.images.listing import ImageFile, list_few, normalise_text
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import follow_links

HEADER = ("file", "class")


class CorrectedFiles(NamedTuple):
    """The photographs with corrections applied, and a sentence on what changed."""

    files: list[ImageFile]
    sentence: str


def read_corrections(path: Path) -> dict[str, str]:
    """Read a csv file `file,class`: the class of each file, "" for a photograph of none of the classes.

    Raises `DataError` for another header, a row of other length and a file with two classes.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[normalise_text(cell.strip()) for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"corrections: {path} is no readable csv file in UTF-8 ({error})") from error
    if not rows or tuple(rows[0]) != HEADER:
        raise DataError(f"{path}: the first line must be 'file,class', not {','.join(rows[0]) if rows else ''!r}")
    found: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != 2 or not row[0]:
            raise DataError(f"{path}, line {number}: a row is a file and its class, got {','.join(row)!r}")
        name, class_name = row[0].replace("\\", "/"), row[1]
        if found.setdefault(name, class_name) != class_name:
            raise DataError(f"{path}, line {number}: {name} is given two classes, {found[name]!r} and {class_name!r}")
    if not found:
        raise DataError(f"{path} corrects nothing: it has no row but the first line")
    return found


def apply_corrections(
    files: Sequence[ImageFile], support: Path, table: Path, photos: Path, groups: str | None = None
) -> CorrectedFiles:
    """Apply the corrections of the csv file `table` to the photographs of the folder `support`.

    A file is looked for below `photos`, then below `support`. One that is among `files` gets its new class, or is left
    out where it has none; any other is added. `groups`: as for the data set `folder`, for the photographs that are
    added. Raises `DataError` for files that are not there and for a class that loses its last photograph.
    """
    corrections = read_corrections(table)
    found = {name: next((p for p in (photos / name, support / name) if p.is_file()), None) for name in corrections}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise DataError(
            f"{table}: {format_count(len(missing), 'file')} neither in {photos} nor in {support}: {list_few(missing)}; "
            "--photos names the folder that was asked about"
        )
    classes = {follow_links(path): corrections[name] for name, path in found.items() if path is not None}
    kept = [file._replace(class_name=classes.get(follow_links(file.path), file.class_name)) for file in files]
    moved = sum(new.class_name not in ("", old.class_name) for new, old in zip(kept, files, strict=True))
    removed = sum(not file.class_name for file in kept)
    known = {follow_links(file.path) for file in files}
    new = [
        ImageFile(classes[follow_links(p)], p) for p in found.values() if p is not None and follow_links(p) not in known
    ]
    added = assign_groups(photos, [file for file in new if file.class_name], groups)
    result = [file for file in (*kept, *added) if file.class_name]
    lost = sorted({file.class_name for file in files} - {file.class_name for file in result})
    if lost:
        raise DataError(
            f"{table}: no photograph of {list_few(lost)} remains; leave the class out of the folder instead"
        )
    parts = (("added", len(added)), ("moved to another class", moved), ("left out", removed))
    sentence = ", ".join(f"{format_count(n, 'photograph')} {what}" for what, n in parts if n) or "nothing changed"
    return CorrectedFiles(result, f"corrections: {sentence}")
