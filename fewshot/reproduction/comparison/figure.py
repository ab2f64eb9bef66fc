"""Draws a comparison: every episode and every class, A against B."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewshot.evaluation.report import format_signed_percent
from fewshot.evaluation.style import BLUE, GREY, VERMILION, figure_style, save_figure, shorten
from fewshot.reproduction.comparison.paired import ClassDifference, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

A_BETTER, B_BETTER, NEITHER = BLUE, VERMILION, "#8A8A8A"
SMALLEST_AREA, LARGEST_AREA = 4.0, 110.0  # of a mark, in square points, by the number of episodes
N_NAMED = 6  # numbered and named classes with the largest differences in each direction
NAME_LENGTH = 34  # longer names are cut
LONGEST_TITLE = 130  # characters of a run's name above the panels
NUMBER_POINTS = 9.0  # from a mark to its number


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `comparison.png` and `comparison.svg` into `folder`; the same comparison gives the same files."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(13.5, 6.2))
        places = (
            (0.045, 0.155, 0.288, 0.627),
            (0.392, 0.155, 0.288, 0.627),
            (0.702, 0.155, 0.29, 0.627),
        )  # two squares, names
        left, right, key = map(figure.add_axes, places)
        _draw_episodes(left, comparison)
        _draw_classes(right, key, comparison)
        header = comparison.a.records.header
        facts = (
            f"{header.dataset}/{header.split}, {comparison.a.records.cell}, {header.n_episodes:,} episodes of "
            f"seed {header.seed}; 95% intervals over episodes, differences paired by episode"
        )
        title = f"A − B = {format_signed_percent(comparison.difference)} percentage points"
        text = {"va": "center", "parse_math": False}
        figure.text(0.045, 0.966, title, fontsize=12, fontweight="bold", **text)
        both = zip("AB", (comparison.a, comparison.b), comparison.names, (A_BETTER, B_BETTER), strict=True)
        for line, (letter, measured, name, colour) in enumerate(both):
            called = shorten(f"{name}{measured.records.mark}", LONGEST_TITLE)
            figure.text(0.045, 0.926 - 0.034 * line, letter, color=colour, fontweight="bold", **text)
            figure.text(0.058, 0.926 - 0.034 * line, called, **text)
        figure.text(0.045, 0.855, facts, color=GREY, **text)
        svg, png = save_figure(figure, folder / "comparison")
    return [png, svg]


def _draw_episodes(axes: "Axes", comparison: Comparison) -> None:
    a, b = (100 * m.records.accuracy for m in (comparison.a, comparison.b))
    counts = Counter(zip(b.tolist(), a.tolist(), strict=True))
    x, y, n = np.array([(*at, count) for at, count in counts.items()]).T
    axes.scatter(x, y, _scale_area(n, n.max()), _choose_colours(y - x), alpha=0.6, linewidths=0)
    for what, colour in (("A better", A_BETTER), ("B better", B_BETTER)):
        axes.scatter([], [], 30, colour, alpha=0.6, linewidths=0, label=what)
    for count in dict.fromkeys([1, round(n.max() ** 0.5), int(n.max())]):
        label = f"{count:,} episode{'s' * (count > 1)}"
        axes.scatter([], [], _scale_area(count, n.max()), NEITHER, alpha=0.6, linewidths=0, label=label)
    means = [m.records.estimate for m in (comparison.b, comparison.a)]
    (mean_x, half_x), (mean_y, half_y) = ((100 * mean, 100 * half) for mean, half in means)
    mark = {"fmt": "D", "ms": 5, "color": "black", "mec": "white", "mew": 0.8, "lw": 1.2, "zorder": 4}
    axes.errorbar(mean_x, mean_y, half_y, half_x, label="mean with interval", **mark)
    sign = comparison.sign
    axes.set_title(f"Episodes: A better in {sign.a_better:,}, B in {sign.b_better:,}; {sign.ties:,} ties (grey)")
    _set_limits(axes, np.concatenate([x, y]), "accuracy on an episode (%)")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.12), ncols=3, columnspacing=1.5)


def _draw_classes(axes: "Axes", key: "Axes", comparison: Comparison) -> None:
    classes = comparison.classes
    y, x = (np.array([100 * getattr(c, f"accuracy_{letter}").mean for c in classes]) for letter in "ab")
    marked = np.array([c.significant for c in classes])
    colours = np.where(marked, _choose_colours(y - x), NEITHER)
    axes.scatter(x, y, np.where(marked, 30, 14), colours, alpha=0.75, linewidths=0)
    axes.set_title(f"Classes: {marked.sum()} of {len(classes)} differ after Holm at 5% (coloured)")
    _set_limits(axes, np.concatenate([x, y]), "accuracy on a class (%)")
    _name_classes(axes, key, [c for c in classes if c.significant])
    counts = [c.n_episodes for c in classes]
    episodes = f"each class in {min(counts):,} to {max(counts):,} episodes"
    key.text(0, -0.06, episodes, transform=key.transAxes, color=GREY, fontsize=8)


def _name_classes(axes: "Axes", key: "Axes", classes: list[ClassDifference]) -> None:
    """Number the classes with the largest differences in each direction, and name them beside the panel."""
    key.set_axis_off()
    number, line = 0, 1.0
    numbered: list[tuple[str, float, float, str]] = []
    for letter, side, colour in (("A", 1, A_BETTER), ("B", -1, B_BETTER)):
        ordered = [c for c in classes[::side] if side * c.difference.mean > 0]
        text = {"transform": key.transAxes, "va": "top", "parse_math": False, "fontsize": 8}
        key.text(
            0,
            line,
            f"{letter} better on {len(ordered)} class{'es' * (len(ordered) != 1)}",
            color=colour,
            fontweight="bold",
            **text,
        )
        for c in ordered[:N_NAMED]:
            number, line = number + 1, line - 0.055
            numbered.append((f"{number}", 100 * c.accuracy_b.mean, 100 * c.accuracy_a.mean, colour))
            name = shorten(c.name, NAME_LENGTH)
            key.text(0.03, line, f"{number}", ha="right", color=colour, **text)
            key.text(0.29, line, format_signed_percent(c.difference), ha="right", **text)
            key.text(0.32, line, name, **text)
        line -= 0.055 + 0.055 * (len(ordered) > N_NAMED)
        if len(ordered) > N_NAMED:
            key.text(0.32, line + 0.055, f"and {len(ordered) - N_NAMED} more", color=GREY, **text)
        line -= 0.04
    number_marks(axes, numbered)


def number_marks(axes: "Axes", numbered: list[tuple[str, float, float, str]]) -> None:
    """Write the number of each mark beside it, on the side farthest from other marks and numbers."""
    to_points = 72 / axes.figure.dpi
    taken = [to_points * axes.transData.transform(marks.get_offsets()) for marks in axes.collections]
    angles = np.arange(8) * np.pi / 4
    around = NUMBER_POINTS * np.stack([np.cos(angles), np.sin(angles)], 1)  # (8, 2)
    for text, x, y, colour in numbered:
        mark = to_points * axes.transData.transform((x, y))
        others = np.concatenate(taken)
        others = others[np.linalg.norm(others - mark, axis=1) > 0.1]
        nearest = np.linalg.norm((mark + around)[:, None] - others, axis=2).min(1, initial=np.inf)  # (8,)
        offset = around[nearest.argmax()]
        taken.append((mark + offset)[None])
        axes.annotate(
            text, (x, y), offset, textcoords="offset points", fontsize=8, color=colour, ha="center", va="center"
        )


def _set_limits(axes: "Axes", values: np.ndarray, what: str) -> None:
    """Set equal ranges of both axes, and draw the line where A equals B."""
    margin = max(1.0, 0.06 * np.ptp(values))
    low, high = values.min() - margin, values.max() + margin
    axes.plot([low, high], [low, high], color=GREY, lw=0.8, zorder=0.9)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=f"B: {what}", ylabel=f"A: {what}")
    axes.locator_params(nbins=6)
    axes.grid()
    axes.xaxis.label.set_color(B_BETTER)
    axes.yaxis.label.set_color(A_BETTER)


def _scale_area(count: np.ndarray | int, largest: int) -> np.ndarray | float:
    return SMALLEST_AREA + (LARGEST_AREA - SMALLEST_AREA) * count / largest


def _choose_colours(differences: np.ndarray) -> np.ndarray:
    """Choose a colour for each A − B, (n,)."""
    return np.select([differences > 0, differences < 0], [A_BETTER, B_BETTER], NEITHER)
