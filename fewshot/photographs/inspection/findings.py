"""What can be wrong with a folder of photographs, each kind a rule that names the files and says what to do."""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewshot.images.formats import count_unread, find_unread_kind
from fewshot.images.listing import list_few
from fewshot.photographs.inspection.measurements import TAIL, Seen

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
# Of the folder's median. Of 1,291 euro coins 4 lie below, all soft to the eye, and of 4,620 world coins none;
# blurred by a Gaussian of 2 px at 150 px a coin typically falls to 0.01 of what it was.
BLURRED = 0.1
SHOWN = 5  # flagged files of each finding, as text
MIN_FOR_MEDIAN = 5  # photographs
EXTREME_ASPECT = 3.0
# Grey values of 255. Measured on planted photographs, a sixth as bright and six times as bright: docs/results/trust.md.
DARK, BRIGHT = 64.0, 160.0
UNBALANCED = 5.0  # largest class against the smallest


@dataclass(frozen=True)
class Flagged:
    """Files that belong together (one, or a set of copies), relative to the folder, and why they are named.

    `like`: files that are shown beside them, the most similar ones.
    """

    files: tuple[str, ...]
    why: str
    like: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """`kind`: a short name; `sentence`: what was found and what to do; `flagged`: the files, worst first."""

    kind: str
    severity: Severity
    sentence: str
    flagged: tuple[Flagged, ...] = ()

    def as_lines(self) -> list[str]:
        """For a terminal: the sentence, and its first files."""
        lines = [f"{self.severity.upper()}: {self.sentence}."]
        lines += [f"    {' = '.join(f.files)}: {f.why}" for f in self.flagged[:SHOWN]]
        return lines + ([f"    and {len(self.flagged) - SHOWN:,} more"] if len(self.flagged) > SHOWN else [])


def find_soft(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Far less sharp than the folder's median at the scale a backbone sees."""
    median = float(np.median([s.look.sharpness for s in seen])) if len(seen) >= MIN_FOR_MEDIAN else 0.0
    blurred = sorted((s for s in seen if s.look.sharpness < BLURRED * median), key=lambda s: s.look.sharpness)
    if blurred:
        text = f"{tally(blurred)} far softer than the folder's median: take {it(blurred)} again if blurred"
        why = [Flagged((s.name,), f"sharpness {s.look.sharpness / median:.2f} of the median") for s in blurred]
        yield Finding("blurred", "warning", text, tuple(why))


def find_badly_lit(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Hardly any pixel is bright, or hardly any is dark: what is seen there lies in a few shades."""
    dark = sorted((s for s in seen if s.look.brightest < DARK), key=lambda s: s.look.brightest)
    if dark:
        text = f"{tally(dark)} too dark: take {it(dark)} again with more light"
        why = [Flagged((s.name,), f"all but {TAIL:.0f}% below {s.look.brightest / 255:.0%} of white") for s in dark]
        yield Finding("too dark", "warning", text, tuple(why))
    bright = sorted((s for s in seen if s.look.darkest > BRIGHT), key=lambda s: -s.look.darkest)
    if bright:
        text = f"{tally(bright)} too bright: take {it(bright)} again with less light"
        why = [Flagged((s.name,), f"all but {TAIL:.0f}% above {s.look.darkest / 255:.0%} of white") for s in bright]
        yield Finding("too bright", "warning", text, tuple(why))


def find_shapes(seen: Sequence[Seen], size_px: int) -> Iterator[Finding]:
    """Smaller than the backbone sees, and long strips."""
    tiny = sorted((s for s in seen if _shorter(s) < size_px), key=_shorter)
    if tiny:
        mostly = len(tiny) > len(seen) / 2
        advice = (
            "most of the folder, so choose a backbone with a smaller input_px, or larger pictures if there are any"
            if mostly
            else f"use larger pictures, for {it(tiny, 'it', 'they')} will be enlarged and look soft"
        )
        text = f"{tally(tiny)} smaller than the {size_px} px that the backbone sees: {advice}"
        why = [Flagged((s.name,), f"{s.look.width_px} x {s.look.height_px} px") for s in tiny]
        yield Finding("tiny", "note" if mostly else "warning", text, tuple(why))
    strips = sorted((s for s in seen if s.look.aspect > EXTREME_ASPECT), key=lambda s: -s.look.aspect)
    if strips:
        text = (
            f"{tally(strips)} more than {EXTREME_ASPECT:.0f} times as long as wide: cut out the part that matters, "
            "or most of it is cropped away"
        )
        why = [Flagged((s.name,), f"{s.look.width_px} x {s.look.height_px} px") for s in strips]
        yield Finding("long strips", "warning", text, tuple(why))


def find_classes(counts: dict[str, int], groups: dict[str, int] | None) -> Iterator[Finding]:
    """Classes with no, one or few photographs, or all of them in one group; `counts`: readable ones of each."""
    if len(counts) == 1:
        yield Finding("one class", "error", f"there is only the class {next(iter(counts))}: add another folder")
    empty = [name for name, n in counts.items() if n == 0]
    if empty:
        yield Finding(
            "empty class", "error", f"no photograph of {list_few(empty)} can be read: fill or remove the folder"
        )
    single = [name for name, n in counts.items() if n == 1]
    if single:
        text = f"only one photograph of {list_few(single)}: add more, for with one nothing can be said about the class"
        yield Finding("one photograph", "warning", text)
    one_group = [name for name, n in (groups or {}).items() if n == 1 and counts[name] > 1]
    if one_group:
        text = (
            f"all photographs of {list_few(one_group)} are of one group: add another group, or nothing tests the class"
        )
        yield Finding("one group", "warning", text)
    some = {name: n for name, n in counts.items() if n}
    if some and max(some.values()) >= UNBALANCED * min(some.values()):
        most, least = max(some, key=some.__getitem__), min(some, key=some.__getitem__)
        text = f"{most} has {some[most]:,} photographs, {least} {some[least]:,}: add to the small classes first"
        yield Finding("unbalanced", "warning", text)


def find_foreign(names: Sequence[str]) -> Iterator[Finding]:
    """Files that are no images, or photographs of a format that cannot be read."""
    camera = [name for name in names if find_unread_kind(name)]
    if camera:
        text = f"left out: {count_unread(camera)}"
        yield Finding("camera formats", "warning", text, tuple(Flagged((n,), "not read") for n in camera))
    others = [name for name in names if name not in set(camera)]
    if others:
        text = f"{tally(others, 'file is no image and is', 'files are no images and are')} left out: nothing to do"
        yield Finding("other files", "note", text, tuple(Flagged((n,), "not read") for n in others))


def find_unreadable(reasons: dict[str, str]) -> Iterator[Finding]:
    """Image files that do not decode, each with its reason."""
    if reasons:
        text = f"{tally(reasons, 'file', 'files')} cannot be read: mend, convert or delete {it(reasons)}"
        yield Finding("unreadable", "error", text, tuple(Flagged((n,), why) for n, why in reasons.items()))


def _shorter(s: Seen) -> int:
    return min(s.look.width_px, s.look.height_px)


def tally(items: Sized, one: str = "photograph is", many: str = "photographs are") -> str:
    """The number of `items` and the words that follow it."""
    return f"1 {one}" if len(items) == 1 else f"{len(items):,} {many}"


def count(n: int, one: str, many: str | None = None) -> str:
    """`n` and the word for one or for several."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def it(items: Sized, one: str = "it", many: str = "them") -> str:
    """The word for one or for several."""
    return one if len(items) == 1 else many
