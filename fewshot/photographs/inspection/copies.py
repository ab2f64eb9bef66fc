"""Finds photographs of a folder that are the same, or nearly the same."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fewshot.images.joining import join_pairs, pair_equal
from fewshot.images.listing import list_few
from fewshot.images.similarity import find_near_pairs, mirror_details
from fewshot.photographs.inspection.findings import Finding, Flagged, choose_pronoun
from fewshot.photographs.inspection.measurements import MeasuredPhotograph
from fewshot.runtime.counts import format_count

CLEARLY = 0.1  # more alike mirrored than not, else the thing itself is symmetric


def find_copies(seen: Sequence[MeasuredPhotograph]) -> Iterator[Finding]:
    """Find equal files and equal pixels: an error across classes, a warning within a class."""
    sets = join_pairs(len(seen), _find_same(seen))
    across = [s for s in sets if len({seen[i].file.class_name for i in s}) > 1]
    within = [s for s in sets if s not in across]
    if across:
        text = (
            f"{format_count(len(across), 'picture lies', 'pictures lie')} in two classes or more, so that no "
            f"classifier can separate these classes: delete {choose_pronoun(across)} from the wrong class"
        )
        yield Finding("picture in two classes", "error", text, _flag(seen, across, _name_classes))
    if within:
        count = format_count(len(within), "picture lies", "pictures lie")
        text = f"{count} several times in a class: keep one copy of each"
        yield Finding("duplicates", "warning", text, _flag(seen, within, lambda _: "the same picture"))


def find_near_copies(seen: Sequence[MeasuredPhotograph]) -> Iterator[Finding]:
    """Find photographs resized, saved again or taken again a moment later, except within a group, where they belong."""
    if not seen:
        return
    exact = {(i, j) for s in join_pairs(len(seen), _find_same(seen)) for i in s for j in s}
    within, across = [], []
    pairs = find_near_pairs(np.stack([s.measured.hash for s in seen]), np.stack([s.measured.details for s in seen]))
    for i, j, likeness in sorted(pairs, key=lambda pair: -pair[2]):
        a, b = seen[i], seen[j]
        flagged = Flagged((a.name, b.name), f"likeness {likeness:.2f} of 1")
        if (i, j) in exact:
            continue
        if a.file.class_name != b.file.class_name:
            across.append(flagged)
        elif a.file.group is None or a.file.group != b.file.group:
            within.append(flagged)
    pair_words = ("pair of photographs looks", "pairs of photographs look")
    if across:
        count = format_count(len(across), *pair_words)
        text = f"{count} nearly the same but in two classes: see which class is right"
        yield Finding("alike in two classes", "warning", text, tuple(across))
    if within:
        grouped = any(s.file.group is not None for s in seen)
        text = (
            f"{format_count(len(within), *pair_words)} nearly the same (resized, saved again, taken again?): keep one"
            + (", or give both the same group" if grouped else "")
            + "; otherwise one is tested on the other and accuracy is overestimated"
        )
        yield Finding("near-duplicates", "warning", text, tuple(within))


def find_mirrored(seen: Sequence[MeasuredPhotograph]) -> Iterator[Finding]:
    """Find pairs of which one is the other with left and right exchanged; a symmetric picture is no such pair."""
    if not seen:
        return
    hashes, details = (np.stack([getattr(s.measured, key) for s in seen]) for key in ("hash", "details"))
    turned = np.stack([s.measured.mirrored_hash for s in seen]), mirror_details(details)
    pairs = [
        (i, j, likeness)
        for i, j, likeness in find_near_pairs(hashes, details, turned)
        if likeness > float(details[i] @ details[j]) + CLEARLY
    ]
    flagged = [
        Flagged((seen[i].name, seen[j].name), f"likeness {likeness:.2f} of 1 once mirrored")
        for i, j, likeness in sorted(pairs, key=lambda pair: -pair[2])
    ]
    if flagged:
        count = format_count(len(flagged), "photograph is there", "photographs are there")
        text = f"{count} mirrored too: keep the one that is the right way round, as no mirror image will be asked about"
        yield Finding("mirrored", "warning", text, tuple(flagged))


def _find_same(seen: Sequence[MeasuredPhotograph]) -> Iterator[tuple[int, int]]:
    """Pair each photograph with the first one that has the same file content or the same pixels."""
    for key in ("content", "picture"):
        yield from pair_equal(getattr(s.measured, key) for s in seen)


def _flag(
    seen: Sequence[MeasuredPhotograph], sets: list[list[int]], why: Callable[[list[MeasuredPhotograph]], str]
) -> tuple[Flagged, ...]:
    return tuple(Flagged(tuple(seen[i].name for i in s), why([seen[i] for i in s])) for s in sets)


def _name_classes(members: list[MeasuredPhotograph]) -> str:
    return "in " + list_few(sorted({s.file.class_name for s in members}))
