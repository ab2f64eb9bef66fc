"""Checks a folder of photographs before a classifier is fitted: counts, and what to mend."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fewshot.datasets.folder import assign_groups
from fewshot.errors import DataError
from fewshot.images.formats import is_image
from fewshot.images.listing import ImageFile, list_class_folders, list_visible, normalise_text
from fewshot.photographs.inspection import copies
from fewshot.photographs.inspection import findings as rules
from fewshot.photographs.inspection.findings import SEVERITIES, Finding
from fewshot.photographs.inspection.measurements import MeasuredPhotograph, measure_photograph
from fewshot.photographs.inspection.reading import read_photographs
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import follow_links
from fewshot.runtime.terminal import visible_text

BAR_CHARACTERS = 30


@dataclass(frozen=True)
class FolderCheck:
    """The findings in folder `root`, errors first; only readable photographs are counted.

    `class_counts`: photographs of each class; `group_counts`: groups of each class, None without groups.
    """

    root: str
    size_px: int
    class_counts: dict[str, int]
    group_counts: dict[str, int] | None
    n_groups: int | None
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def unusable(self) -> frozenset[str]:
        """Files that no classifier can learn from: unreadable, or in two classes."""
        kinds = ("unreadable", "picture in two classes")
        sets = [flagged for found in self.findings if found.kind in kinds for flagged in found.flagged]
        return frozenset(name for flagged in sets for name in flagged.files)

    @property
    def n_images(self) -> int:
        return sum(self.class_counts.values())

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain lists, strings and numbers, for JSON."""
        return asdict(self) | {"n_images": self.n_images}

    def as_text(self) -> str:
        """Format for a terminal: a line for each class, then each finding with its first files."""
        widest = max(map(len, self.class_counts))
        most = max(1, *self.class_counts.values())
        lines = [self._format_headline()]
        for name, n in self.class_counts.items():
            bar = "█" * max(int(n > 0), round(n * BAR_CHARACTERS / most))
            of_groups = "" if self.group_counts is None else f" in {format_count(self.group_counts[name], 'group')}"
            lines.append(f"  {name.ljust(widest)}  {n:>5,}{of_groups} {bar}")
        for finding in self.findings:
            lines += finding.as_lines()
        if not self.findings:
            lines.append("Nothing to mend.")
        return "\n".join(visible_text(line) for line in lines)

    def _format_headline(self) -> str:
        groups = "" if self.n_groups is None else f" in {format_count(self.n_groups, 'group')}"
        classes = format_count(len(self.class_counts), "class", "classes")
        count = f"{format_count(self.n_images, 'photograph')} of {classes}{groups}"
        return f"{Path(self.root).name}: {count}, read in {self.seconds:.1f} s"


def check_folder(
    root: str | Path, groups: str | None = None, size_px: int = 224, n_threads: int | None = None
) -> FolderCheck:
    """Read every file of `root/class/` once and collect what is to be mended.

    `groups`: as for the data set `folder`, a regular expression searched in file names or a csv file `file,group`.
    `size_px`: side of the backbone's square input. `n_threads`: None for one thread on each core, at most 8. Files
    that cannot be read are findings, not errors. Raises `DataError` unless the folder holds one folder per class.
    """
    if size_px < 1:
        raise DataError(f"size_px is a whole number of pixels, at least 1, got {size_px!r}")
    root, start = Path(root), time.perf_counter()
    folders = list_class_folders(root)
    files = [ImageFile(normalise_text(folder.name), path) for folder, paths in folders.items() for path in paths]
    files = assign_groups(root, files, groups)
    seen, reasons = _read(root, files, n_threads)
    counts = Counter(s.file.class_name for s in seen)
    class_counts = {name: counts[name] for name in (normalise_text(folder.name) for folder in folders)}
    pairs = {(s.file.class_name, s.file.group) for s in seen}
    group_counts = None if groups is None else {c: sum(name == c for name, _ in pairs) for c in class_counts}
    found: Iterable[Finding] = (
        *rules.find_unreadable(reasons),
        *copies.find_copies(seen),
        *rules.find_class_problems(class_counts, group_counts),
        *copies.find_near_copies(seen),
        *copies.find_mirrored(seen),
        *rules.find_blurred(seen),
        *rules.find_badly_lit(seen),
        *rules.find_unsuitable_sizes(seen, size_px),
        *rules.find_other_files(_list_others(root, groups)),
    )
    return FolderCheck(
        str(root),
        size_px,
        class_counts,
        group_counts,
        None if groups is None else len({group for _, group in pairs}),
        tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))),
        time.perf_counter() - start,
    )


def _read(root: Path, files: list[ImageFile], n_threads: int | None) -> tuple[list[MeasuredPhotograph], dict[str, str]]:
    """Measure the photographs that can be read, and collect the error of each file that cannot."""
    photographs, reasons = [], {}
    results = read_photographs([file.path for file in files], measure_photograph, n_threads=n_threads)
    for file, result in zip(files, results, strict=True):
        name = file.path.relative_to(root).as_posix()
        if isinstance(result, DataError):
            reasons[name] = str(result).removeprefix(f"{file.path}: ")
        else:
            photographs.append(MeasuredPhotograph(name, file, result))
    return photographs, reasons


def _list_others(root: Path, groups: str | None) -> list[str]:
    """List visible files that are no images, except the table of groups, relative to `root`."""
    folders = [root, *(path for path in list_visible(root) if path.is_dir())]
    paths = [
        path for folder in folders for path in list_visible(folder) if not path.is_dir() and not is_image(path.name)
    ]
    table = {follow_links(root / groups), follow_links(groups)} if groups else set()
    return [normalise_text(path.relative_to(root).as_posix()) for path in paths if follow_links(path) not in table]
