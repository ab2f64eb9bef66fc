"""Draws lines with bands on a logit scale, each with its name at its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewshot.evaluation.style import GREY, figure_style, save_figure
from fewshot.methods import Method
from fewshot.reproduction.figures.places import BESIDE, cover, place_beside, spread, trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

MARKS = {  # mark and meaning for each family of methods; other families have no mark
    "episodic": ("o", "trained on episodes"),
    "adapted": ("D", "adapted by gradients"),
    "two-stage": ("s", "starts from a classifier"),
}
TICKS = (  # percent; the later ones only where there is room between the others
    50, 90, 99, 99.9, 99.99, 80, 95, 99.5, 99.95, 98, 99.8, 20, 70, 10, 5, 2, 1, 60, 40, 30, 99.98, 85, 97, 75, 65, 55,
    45, 35, 25, 96, 94, 93, 92, 91, *range(89, 1, -1), 98.5, 97.5, 96.5, 99.7, 99.6, 99.4, 99.3, 99.2,
)  # fmt: skip
TICK_GAP, LABEL_GAP = 0.075, 0.05  # smallest distance of ticks and of names, as shares of the axes' height
BAND_SHOWN = 0.5  # how far the axes extend beyond the lines to show their bands, as a logit


@dataclass(frozen=True)
class Line:
    """A method's accuracies. `x`, `mean`, `half`: of each point; `resolution`: half of one answer, as a fraction.

    `method`: its class, which declares colour and family. `dashed`: whether it is a variant. `joined`: whether all
    points have the same weights. `beside`: write its name beside its last mark, not at the right of the axes.
    """

    name: str
    method: type[Method]
    x: Sequence[float]
    mean: Sequence[float]
    half: Sequence[float]
    resolution: Sequence[float]
    dashed: bool = False
    joined: bool = True
    beside: bool = False

    def shown(self, deviations: float = 0.0) -> np.ndarray:
        """The logit of mean + deviations * half, kept half an answer away from 0 and 1, where it is infinite."""
        low = np.asarray(self.resolution)
        return logit(np.clip(np.asarray(self.mean) + deviations * np.asarray(self.half), low, 1 - low))


@dataclass(frozen=True)
class Panel:
    """One panel of a figure: its heading and its lines."""

    heading: str
    lines: list[Line]


def logit(accuracy: np.ndarray) -> np.ndarray:
    """log(p / (1 − p)): a step is a factor of the odds, so that 98 and 99% are as far apart as 1 and 2%."""
    return np.log(accuracy) - np.log1p(-accuracy)


def draw(panels: list[Panel], x_label: str, x_ticks: Sequence[float], title: str, facts: str, path: Path) -> list[Path]:
    """Write a figure of panels side by side, as SVG and as PNG; the same lines give the same files."""
    from matplotlib.figure import Figure

    with figure_style():
        width, top = 1.5 + 6.6 * len(panels) ** 0.75, 0.83 if any(panel.heading for panel in panels) else 0.87
        figure = Figure(figsize=(width, 5.4))
        axes = figure.subplots(1, len(panels), squeeze=False, gridspec_kw={
            "left": 0.75 / width, "right": 1 - 1.6 / width, "bottom": 0.155, "top": top, "wspace": 0.55,
        })[0]  # fmt: skip
        x_limits = [pick(pick(line.x) for panel in panels for line in panel.lines) for pick in (min, max)]
        for ax, panel in zip(axes, panels, strict=True):
            ax.set_xscale("log")
            ax.set_xlim(x_limits[0] / 1.05, x_limits[1] * 1.05)
            _draw_panel(ax, panel, x_label, x_ticks)
        axes[0].set_ylabel("accuracy (%), logit scale")
        text = {"va": "center", "parse_math": False}
        figure.text(0.16 / width, 0.955, title, fontsize=12, fontweight="bold", **text)
        figure.text(0.16 / width, 0.908, facts, color=GREY, fontsize=8, **text)
        return save_figure(figure, path)


def _draw_panel(axes: "Axes", panel: Panel, x_label: str, x_ticks: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    for line in panel.lines:
        _draw_line(axes, line)
    low = min(np.maximum(line.shown(-1), line.shown() - BAND_SHOWN).min() for line in panel.lines)
    high = max(np.minimum(line.shown(1), line.shown() + BAND_SHOWN).max() for line in panel.lines)
    margin = 0.03 * (high - low) + 1e-3
    axes.set_ylim(low - margin, high + margin)
    ticks = place_ticks(low, high)
    axes.set_yticks([logit(t / 100) for t in ticks], [f"{t:g}" for t in ticks])
    x_low, x_high = axes.get_xlim()
    axes.xaxis.set_major_locator(FixedLocator([x for x in x_ticks if x_low <= x <= x_high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.set_xlabel(x_label)
    axes.set_title(panel.heading, loc="left", fontsize=9, color=GREY)
    axes.grid()
    _draw_names(axes, panel.lines)
    _explain_marks(axes, panel.lines)


def _draw_line(axes: "Axes", line: Line) -> None:
    colour, family = line.method.colour, line.method.family
    mark = MARKS[family][0] if family in MARKS else "None"
    style = ":" if not line.joined else "--" if line.dashed else "-"
    on_top = 3 if family in MARKS else 2
    if line.joined and len(line.x) > 1:
        axes.fill_between(line.x, line.shown(-1), line.shown(1), color=colour, alpha=0.13, lw=0, zorder=on_top)
    else:
        axes.vlines(line.x, line.shown(-1), line.shown(1), color=colour, lw=1.2, alpha=0.5, zorder=on_top)
    options = {"ms": 3.6, "mec": "white", "mew": 0.5, "clip_on": False, "zorder": on_top + 1}
    axes.plot(line.x, line.shown(), color=colour, ls=style, lw=1.5, marker=mark, **options)


def _draw_names(axes: "Axes", lines: Sequence[Line]) -> None:
    """Write the name and last value of each line at the right of the axes, with a thin leader, or beside its end."""
    to_axes = (axes.transData + axes.transAxes.inverted()).transform
    paths = [to_axes(np.stack([line.x, line.shown()], 1)) for line in lines]
    named = sorted(
        ((line, *path[-1]) for line, path in zip(lines, paths, strict=True) if not line.beside), key=lambda end: end[2]
    )
    for (line, x, y), at in zip(named, spread([y for *_, y in named], LABEL_GAP, 0.0, 1.0), strict=True):
        _write_name(axes, line, [x + 0.008, max(1.0, x), 1.03], [y, y, at])
    _draw_names_beside(axes, lines, paths)


def _draw_names_beside(axes: "Axes", lines: Sequence[Line], paths: Sequence[np.ndarray]) -> None:
    """Write names beside the ends of their lines, left or right and as high as needed to cross fewest lines.

    `paths`: the points of each line, (n, 2), as shares of the axes' width and height.
    """
    drawn = [trace(path) for path in paths]
    taken: list[np.ndarray] = []
    ends = [(line, *path[-1]) for line, path in zip(lines, paths, strict=True) if line.beside]
    for line, x, y in sorted(ends, key=lambda end: -end[2]):
        label = _write_name(axes, line, [x, x - BESIDE], [y, y])
        box = label.get_window_extent().transformed(axes.transAxes.inverted())
        size = np.array([box.width + 0.012, LABEL_GAP])
        side, at = place_beside((x, y), size, np.concatenate(drawn), np.array(taken).reshape(-1, 2, 2))
        label.remove()
        axes.lines[-1].remove()
        _write_name(axes, line, [x, x + side * BESIDE], [y, at])
        taken.append(cover((x, at), size, side))


def _write_name(axes: "Axes", line: Line, x: Sequence[float], y: Sequence[float]) -> "Text":
    """Write a line's name where a thin leader along `x` and `y`, shares of the axes, ends."""
    from matplotlib.patheffects import withStroke

    label = f"{line.name}  {100 * line.mean[-1]:.{_count_decimals(line)}f}"
    placed = {"transform": axes.transAxes, "zorder": 1, "clip_on": False}
    axes.plot(x, y, color=line.method.colour, lw=0.6, alpha=0.55, **placed)
    side = 1 if x[-1] > x[0] else -1
    halo = [withStroke(linewidth=2.5, foreground="white")] if line.beside else []
    place = {"x": x[-1] + side * (0.004 if line.beside else 0.008), "y": y[-1], "ha": "left" if side > 0 else "right"}
    text = {"va": "center", "fontsize": 8.5, "transform": axes.transAxes, "path_effects": halo, "zorder": 5}
    return axes.text(s=label, color=line.method.colour, **text, **place)


def _count_decimals(line: Line) -> int:
    return 2 if line.mean[-1] > 0.985 else 1


def _explain_marks(axes: "Axes", lines: Sequence[Line]) -> None:
    """Explain the marks, and lines that are not solid, below the axes."""
    used = {line.method.family for line in lines}
    for family, (mark, meaning) in MARKS.items():
        if family in used:
            axes.plot([], [], mark, color=GREY, ms=3.6, label=meaning)
    if any(line.dashed and line.joined for line in lines):
        axes.plot([], [], "--", color=GREY, lw=1.5, label="a variant")
    if any(not line.joined for line in lines):
        axes.plot([], [], ":", color=GREY, lw=1.5, label="other weights at each point")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.105), ncols=len(MARKS) + 2, handletextpad=0.4)


def place_ticks(low: float, high: float) -> list[float]:
    """Choose the ticks, in percent, whose logits lie within [low, high] and are not too near to each other."""
    kept: list[float] = []
    for tick in TICKS:
        at = logit(tick / 100)
        if low <= at <= high and all(abs(at - logit(t / 100)) >= TICK_GAP * (high - low) for t in kept):
            kept.append(tick)
    return kept
