"""Rules that find what is wrong with a folder of photographs, name the files and say what to do."""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewshot.images.formats import count_unread, find_unread_kind
from fewshot.images.listing import list_few
from fewshot.photographs.inspection.measurements import MeasuredPhotograph
from fewshot.runtime.counts import format_count

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
# BLURRED, DARK, BRIGHT: chosen on world coins' validation countries, CIFAR-FS's validation classes and 21 classes
# of GTSRB, so that at most 4 of 100 ordinary photographs are named; on other classes: docs/results/trust.md.
BLURRED = 0.2  # of the folder's median sharpness
MIN_FOR_MEDIAN = 5  # photographs; with fewer the median says little
EXTREME_ASPECT = 3.0
DARK, BRIGHT = 40.0, 112.0  # of 255
SHOWN = 5  # flagged files that the text names for each finding
UNBALANCED = 5.0  # ratio of the largest class to the smallest


@dataclass(frozen=True)
class Flagged:
    """One file or a set of copies, as paths relative to the folder, and why a finding names them.

    `like`: files that are shown beside them, because they are the most similar ones.
    """

    files: tuple[str, ...]
    why: str
    like: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A problem of the folder.

    `kind`: a short name; `sentence`: what was found and what to do; `flagged`: the files, worst first.
    """

    kind: str
    severity: Severity
    sentence: str
    flagged: tuple[Flagged, ...] = ()

    def as_lines(self) -> list[str]:
        """Format for a terminal: the sentence, and its first files."""
        lines = [f"{self.severity.upper()}: {self.sentence}."]
        lines += [f"    {list_few(f.files, SHOWN, ' = ')}: {f.why}" for f in self.flagged[:SHOWN]]
        return lines + ([f"    and {len(self.flagged) - SHOWN:,} more"] if len(self.flagged) > SHOWN else [])


def find_blurred(seen: Sequence[MeasuredPhotograph]) -> Iterator[Finding]:
    """Find photographs far less sharp than the folder's median, measured at the size that a backbone takes."""
    median = float(np.median([s.measured.sharpness for s in seen])) if len(seen) >= MIN_FOR_MEDIAN else 0.0
    blurred = sorted((s for s in seen if s.measured.sharpness < BLURRED * median), key=lambda s: s.measured.sharpness)
    if blurred:
        again = f"take {choose_pronoun(blurred)} again if blurred"
        text = f"{_count_photographs(blurred)} far less sharp than the folder's median: {again}"
        why = [Flagged((s.name,), f"sharpness {s.measured.sharpness / median:.2f} of the median") for s in blurred]
        yield Finding("blurred", "warning", text, tuple(why))


def find_badly_lit(seen: Sequence[MeasuredPhotograph]) -> Iterator[Finding]:
    """Find photographs in which hardly any pixel is bright, or hardly any is dark: few shades show the thing."""
    dark = sorted((s for s in seen if s.measured.brightest < DARK), key=lambda s: s.measured.brightest)
    if dark:
        text = f"{_count_photographs(dark)} too dark: take {choose_pronoun(dark)} again with more light"
        why = [Flagged((s.name,), f"nearly all below {s.measured.brightest / 255:.0%} of white") for s in dark]
        yield Finding("too dark", "warning", text, tuple(why))
    bright = sorted((s for s in seen if s.measured.darkest > BRIGHT), key=lambda s: -s.measured.darkest)
    if bright:
        text = f"{_count_photographs(bright)} too bright: take {choose_pronoun(bright)} again with less light"
        why = [Flagged((s.name,), f"nearly all above {s.measured.darkest / 255:.0%} of white") for s in bright]
        yield Finding("too bright", "warning", text, tuple(why))


def find_unsuitable_sizes(seen: Sequence[MeasuredPhotograph], size_px: int) -> Iterator[Finding]:
    """Find photographs smaller than the backbone's input, and long strips."""
    tiny = sorted((s for s in seen if _shorter(s) < size_px), key=_shorter)
    if tiny:
        mostly = len(tiny) > len(seen) / 2
        advice = (
            "most of the folder, so choose a backbone with a smaller input_px, or larger pictures if there are any"
            if mostly
            else f"use larger pictures, for {choose_pronoun(tiny, 'it', 'they')} will be enlarged and look blurred"
        )
        text = f"{_count_photographs(tiny)} smaller than the {size_px} px that the backbone takes: {advice}"
        why = [Flagged((s.name,), f"{s.measured.width_px} x {s.measured.height_px} px") for s in tiny]
        yield Finding("tiny", "note" if mostly else "warning", text, tuple(why))
    strips = sorted((s for s in seen if s.measured.aspect > EXTREME_ASPECT), key=lambda s: -s.measured.aspect)
    if strips:
        text = (
            f"{_count_photographs(strips)} more than {EXTREME_ASPECT:.0f} times as long as wide: cut out the part that "
            "matters, or most of it is cropped away"
        )
        why = [Flagged((s.name,), f"{s.measured.width_px} x {s.measured.height_px} px") for s in strips]
        yield Finding("long strips", "warning", text, tuple(why))


def find_class_problems(counts: dict[str, int], groups: dict[str, int] | None) -> Iterator[Finding]:
    """Find classes with no, one or few photographs, or with one group only; `counts`: readable photographs of each."""
    if len(counts) == 1:
        yield Finding("one class", "error", f"there is only the class {next(iter(counts))}: add another folder")
    empty = [name for name, n in counts.items() if n == 0]
    if empty:
        yield Finding(
            "empty class", "error", f"no photograph of {list_few(empty)} can be read: fill or remove the folder"
        )
    single = [name for name, n in counts.items() if n == 1]
    if single:
        text = f"only one photograph of {list_few(single)}: add more; with one, its accuracy cannot be estimated"
        yield Finding("one photograph", "warning", text)
    one_group = [name for name, n in (groups or {}).items() if n == 1 and counts[name] > 1]
    if one_group:
        text = (
            f"all photographs of {list_few(one_group)} are of one group: add another group, or the class is not tested"
        )
        yield Finding("one group", "warning", text)
    some = {name: n for name, n in counts.items() if n}
    if some and max(some.values()) >= UNBALANCED * min(some.values()):
        most, least = max(some, key=some.__getitem__), min(some, key=some.__getitem__)
        text = (
            f"{most} has {format_count(some[most], 'photograph')}, {least} {some[least]:,}: "
            "add to the small classes first"
        )
        yield Finding("unbalanced", "warning", text)


def find_other_files(names: Sequence[str]) -> Iterator[Finding]:
    """Find files that are no images, and photographs in a format that cannot be read."""
    camera = [name for name in names if find_unread_kind(name)]
    if camera:
        text = f"left out: {count_unread(camera)}"
        yield Finding("camera formats", "warning", text, tuple(Flagged((n,), "not read") for n in camera))
    others = [name for name in names if name not in set(camera)]
    if others:
        count = format_count(len(others), "file is no image and is", "files are no images and are")
        text = f"{count} left out: nothing to do"
        yield Finding("other files", "note", text, tuple(Flagged((n,), "not read") for n in others))


def find_unreadable(reasons: dict[str, str]) -> Iterator[Finding]:
    """Report image files that do not decode, each with its reason."""
    if reasons:
        count = format_count(len(reasons), "file")
        text = f"{count} cannot be read: mend, convert or delete {choose_pronoun(reasons)}"
        yield Finding("unreadable", "error", text, tuple(Flagged((n,), why) for n, why in reasons.items()))


def _shorter(s: MeasuredPhotograph) -> int:
    return min(s.measured.width_px, s.measured.height_px)


def _count_photographs(items: Sized) -> str:
    return format_count(len(items), "photograph is", "photographs are")


def choose_pronoun(items: Sized, one: str = "it", many: str = "them") -> str:
    """Choose the pronoun for one or for several items."""
    return one if len(items) == 1 else many
