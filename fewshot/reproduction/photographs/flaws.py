"""How many ordinary photographs `check` names as dark, bright, blurred or mirrored, and how many that are made so."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from fewshot.evaluation.statistics import compute_mean_interval
from fewshot.images.listing import ImageFile
from fewshot.photographs.inspection import copies
from fewshot.photographs.inspection import findings as rules
from fewshot.photographs.inspection.measurements import MeasuredPhotograph, measure_photograph
from fewshot.photographs.inspection.reading import decode_photograph
from fewshot.reproduction.photographs.sets import CHOSEN_ON, EmbeddedSet, draw_folder

N_WAY, N_SHOT = 8, 5
KINDS = ("too dark", "too bright", "blurred", "mirrored")


def _change_light(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def _blur(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.filter(ImageFilter.GaussianBlur(share * max(image.size)))


# Changes and the kind of finding that is to name them.
FLAWS: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "a quarter as bright": ("too dark", _change_light(1 / 4)),
    "an eighth as bright": ("too dark", _change_light(1 / 8)),
    "four times as bright": ("too bright", _change_light(4)),
    "eight times as bright": ("too bright", _change_light(8)),
    "blurred by 1%": ("blurred", _blur(0.01)),
    "blurred by 2%": ("blurred", _blur(0.02)),
    "mirrored copy": ("mirrored", ImageOps.mirror),
}


def measure_flaws(data: EmbeddedSet, n_repetitions: int) -> dict[str, object]:
    """Draw folders of 8 classes, and give one photograph of each folder every flaw in turn.

    `ordinary`: how many photographs of a folder each kind of finding names where nothing was changed; `found`: whether
    it names the changed one. A mirrored copy is saved as JPEG and lies beside its original. Classes on which thresholds
    were chosen are left out.
    """
    data = replace(data, rows=data.rows[data.labels >= CHOSEN_ON.get(data.name, 0)])
    ordinary: dict[str, list[int]] = {kind: [] for kind in KINDS}
    found: dict[str, list[int]] = {flaw: [] for flaw in FLAWS}
    seen: dict[int, MeasuredPhotograph] = {}
    for repetition in range(n_repetitions):
        rng = np.random.default_rng((repetition, 28))
        rows, labels = draw_folder(data, N_WAY, N_SHOT, rng)
        for row in set(rows.tolist()) - seen.keys():
            seen[row] = _measure(f"{row}", str(data.labels[row]), _open(data, row), "PNG")
        folder = [seen[row] for row in rows.tolist()]
        named = find_flaws(folder)
        for kind in KINDS:
            ordinary[kind].append(len(named[kind]))
        place = int(rng.integers(len(rows)))
        for flaw, (kind, change) in FLAWS.items():
            changed = change(_open(data, int(rows[place])))
            mirrored = kind == "mirrored"
            made = _measure("made", folder[place].file.class_name, changed, "JPEG" if mirrored else "PNG")
            others = folder if mirrored else folder[:place] + folder[place + 1 :]
            found[flaw].append(int("made" in find_flaws([*others, made])[kind]))
    return {"n_images": len(labels), "ordinary": ordinary, "found": found}


def find_flaws(folder: Sequence[MeasuredPhotograph]) -> dict[str, set[str]]:
    """Find the names of the photographs that each kind of finding of `check` names."""
    named: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for finding in (*rules.find_blurred(folder), *rules.find_badly_lit(folder), *copies.find_mirrored(folder)):
        named[finding.kind].update(name for flagged in finding.flagged for name in flagged.files)
    return named


def _open(data: EmbeddedSet, row: int) -> Image.Image:
    return Image.fromarray(data.pixels[row].permute(1, 2, 0).numpy())


def _measure(name: str, class_name: str, image: Image.Image, form: str) -> MeasuredPhotograph:
    """Measure an image as `check` does after reading it from a file."""
    content = io.BytesIO()
    image.save(content, form)
    measured = measure_photograph(decode_photograph(content.getvalue(), name))
    return MeasuredPhotograph(name, ImageFile(class_name, Path(name)), measured)


def format_flaws(records: list[dict]) -> str:
    """Make the table of `measure_flaws`' records."""
    heads = [f"ordinary | {kind}" for kind in KINDS] + [f"{flaw} | {kind}" for flaw, (kind, _) in FLAWS.items()]
    lines = [
        f"| photographs | named as | {' | '.join(r['dataset'] for r in records)} |",
        f"|---|---|{'---|' * len(records)}",
    ]
    for place, head in enumerate(heads):
        cells = []
        for r in records:
            ordinary = [np.array(counts) / r["n_images"] for counts in r["ordinary"].values()]
            estimate = compute_mean_interval([*ordinary, *map(np.array, r["found"].values())][place].astype(float))
            cells.append(f"{100 * estimate.mean:.1f} ± {100 * estimate.half_width_95:.1f}")
        lines.append(f"| {head} | {' | '.join(cells)} |")
    return "\n".join(lines)
