"""Which photographs of a folder are the same, or nearly."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fewshot.images.listing import list_few
from fewshot.images.similarity import find_near_pairs, join_pairs, mirror_details, pair_equal
from fewshot.photographs.inspection.findings import Finding, Flagged, it, tally
from fewshot.photographs.inspection.measurements import Seen

CLEARLY = 0.1  # more alike mirrored than not: else the thing itself is symmetric


def find_copies(seen: Sequence[Seen]) -> Iterator[Finding]:
    """The same file or the same pixels: in two classes an error, in one class a warning."""
    sets = join_pairs(len(seen), _find_same(seen))
    across = [s for s in sets if len({seen[i].file.class_name for i in s}) > 1]
    within = [s for s in sets if s not in across]
    if across:
        text = (
            f"{tally(across, 'picture lies', 'pictures lie')} in two classes or more: delete "
            f"{it(across)} where {it(across, 'it is', 'they are')} wrong, for no classifier can tell the classes apart"
        )
        yield Finding("picture in two classes", "error", text, _flag(seen, across, _name_classes))
    if within:
        text = f"{tally(within, 'picture lies', 'pictures lie')} several times in a class: keep one copy of each"
        yield Finding("duplicates", "warning", text, _flag(seen, within, lambda _: "the same picture"))


def find_near_copies(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Resized, saved again or taken again a moment later; not reported inside a group, where it is expected."""
    if not seen:
        return
    exact = {(i, j) for s in join_pairs(len(seen), _find_same(seen)) for i in s for j in s}
    within, across = [], []
    pairs = find_near_pairs(np.stack([s.look.hash for s in seen]), np.stack([s.look.details for s in seen]))
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
        text = f"{tally(across, *pair_words)} nearly the same but in two classes: see which class is right"
        yield Finding("alike in two classes", "warning", text, tuple(across))
    if within:
        grouped = any(s.file.group is not None for s in seen)
        text = (
            f"{tally(within, *pair_words)} nearly the same (resized, saved again, taken again?): keep one"
            + (" or give both one group" if grouped else "")
            + ", or one will be the test of the other and the answers look better than they are"
        )
        yield Finding("near-duplicates", "warning", text, tuple(within))


def find_mirrored(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Pairs of which one is the other with left and right exchanged; a picture that is its own mirror image is none."""
    if not seen:
        return
    hashes, details = (np.stack([getattr(s.look, key) for s in seen]) for key in ("hash", "details"))
    turned = np.stack([s.look.mirrored_hash for s in seen]), mirror_details(details)
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
        text = (
            f"{tally(flagged, 'pair of photographs is', 'pairs of photographs are')} mirror images of each other: "
            "keep the one that is the right way round, for letters and faces are never mirrored"
        )
        yield Finding("mirrored", "warning", text, tuple(flagged))


def _find_same(seen: Sequence[Seen]) -> Iterator[tuple[int, int]]:
    """Pairs of equal content or equal picture, each copy with the first of its kind."""
    for key in ("content", "picture"):
        yield from pair_equal(getattr(s.look, key) for s in seen)


def _flag(seen: Sequence[Seen], sets: list[list[int]], why: Callable[[list[Seen]], str]) -> tuple[Flagged, ...]:
    return tuple(Flagged(tuple(seen[i].name for i in s), why([seen[i] for i in s])) for s in sets)


def _name_classes(members: list[Seen]) -> str:
    return "in " + list_few(sorted({s.file.class_name for s in members}))
