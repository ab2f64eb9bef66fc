"""A picture of a comparison: every episode and every class, A against B."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewshot.evaluation.report import format_signed_percent
from fewshot.reproduction.comparison.paired import ClassDifference, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's blue and vermilion, which colour-blind readers tell apart: https://jfly.uni-koeln.de/color/
A_BETTER, B_BETTER, NEITHER = "#0072B2", "#D55E00", "#8A8A8A"
SMALLEST_AREA, LARGEST_AREA = 4.0, 110.0  # of a mark, in square points; between them they grow with the episodes
N_NAMED = 6  # classes at either end that are numbered and named
NAME_LENGTH = 34  # longer names are cut
GREY = "#555555"
STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY,
    "svg.hashsalt": "fewshot", "svg.fonttype": "none",
}  # fmt: skip


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `comparison.png` and `comparison.svg` into `folder`; the same comparison gives the same files."""
    import matplotlib  # here, so that importing fewshot does not
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13.5, 5.4))
        places = (
            (0.045, 0.12, 0.288, 0.72),
            (0.392, 0.12, 0.288, 0.72),
            (0.702, 0.12, 0.29, 0.72),
        )  # two squares, names
        left, right, key = map(figure.add_axes, places)
        _episodes(left, comparison)
        _classes(right, key, comparison)
        header, (name_a, name_b) = comparison.a.records.header, comparison.names
        name_a, name_b = f"{name_a}{comparison.a.records.mark}", f"{name_b}{comparison.b.records.mark}"
        title = f"{name_a} (A) − {name_b} (B) = {format_signed_percent(comparison.difference)} percentage points"
        facts = (
            f"{header.dataset}/{header.split}, {comparison.a.records.cell}, {header.n_episodes:,} episodes of "
            f"seed {header.seed}; 95% intervals over episodes, differences paired by episode"
        )
        figure.text(0.045, 0.955, title, fontsize=12, fontweight="bold", va="center", parse_math=False)
        figure.text(0.045, 0.91, facts, color=GREY, va="center", parse_math=False)
        paths = [folder / "comparison.png", folder / "comparison.svg"]
        figure.savefig(paths[0], dpi=200)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _episodes(axes: "Axes", comparison: Comparison) -> None:
    a, b = (100 * m.records.accuracy for m in (comparison.a, comparison.b))
    counts = Counter(zip(b.tolist(), a.tolist(), strict=True))
    x, y, n = np.array([(*at, count) for at, count in counts.items()]).T
    axes.scatter(x, y, _area(n, n.max()), _colours(y - x), alpha=0.6, linewidths=0)
    for count in dict.fromkeys([1, round(n.max() ** 0.5), int(n.max())]):
        label = f"{count:,} episode{'s' * (count > 1)}"
        axes.scatter([], [], _area(count, n.max()), NEITHER, alpha=0.6, linewidths=0, label=label)
    means = [m.records.estimate for m in (comparison.b, comparison.a)]
    (mean_x, half_x), (mean_y, half_y) = ((100 * mean, 100 * half) for mean, half in means)
    mark = {"fmt": "D", "ms": 5, "color": "black", "mec": "white", "mew": 0.8, "lw": 1.2, "zorder": 4}
    axes.errorbar(mean_x, mean_y, half_y, half_x, label="mean with interval", **mark)
    sign = comparison.sign
    axes.set_title(f"Episodes: A better in {sign.a_better:,}, B in {sign.b_better:,}; {sign.ties:,} ties (grey)")
    _frame(axes, np.concatenate([x, y]), "accuracy on an episode (%)")
    axes.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=GREY)


def _classes(axes: "Axes", key: "Axes", comparison: Comparison) -> None:
    classes = comparison.classes
    y, x = (np.array([100 * getattr(c, f"accuracy_{letter}").mean for c in classes]) for letter in "ab")
    marked = np.array([c.significant for c in classes])
    colours = np.where(marked, _colours(y - x), NEITHER)
    axes.scatter(x, y, np.where(marked, 30, 14), colours, alpha=0.75, linewidths=0)
    axes.set_title(f"Classes: {marked.sum()} of {len(classes)} differ after Holm at 5% (coloured)")
    _frame(axes, np.concatenate([x, y]), "accuracy on a class (%)")
    _name(axes, key, [c for c in classes if c.significant])
    counts = [c.n_episodes for c in classes]
    episodes = f"each class in {min(counts):,} to {max(counts):,} episodes"
    key.text(0, 0, episodes, transform=key.transAxes, color=GREY, fontsize=8)


def _name(axes: "Axes", key: "Axes", classes: list[ClassDifference]) -> None:
    """Number the classes at either end, and name them beside the panel."""
    key.set_axis_off()
    number, line = 0, 1.0
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
            axes.annotate(
                f"{number}", (100 * c.accuracy_b.mean, 100 * c.accuracy_a.mean), (-4 * side, 4 * side),
                textcoords="offset points", fontsize=8, color=colour, ha="center", va="center",
            )  # fmt: skip
            name = c.name if len(c.name) <= NAME_LENGTH else f"{c.name[: NAME_LENGTH - 1]}…"
            key.text(0.03, line, f"{number}", ha="right", color=colour, **text)
            key.text(0.29, line, format_signed_percent(c.difference), ha="right", **text)
            key.text(0.32, line, name, **text)
        line -= 0.055 + 0.055 * (len(ordered) > N_NAMED)
        if len(ordered) > N_NAMED:
            key.text(0.32, line + 0.055, f"and {len(ordered) - N_NAMED} more", color=GREY, **text)
        line -= 0.04


def _frame(axes: "Axes", values: np.ndarray, what: str) -> None:
    """Square axes of the same range, the line where A equals B, and whose side is whose."""
    margin = max(1.0, 0.04 * np.ptp(values))
    low, high = values.min() - margin, values.max() + margin
    axes.plot([low, high], [low, high], color=GREY, lw=0.8, zorder=0.9)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=f"B: {what}", ylabel=f"A: {what}")
    axes.locator_params(nbins=6)
    axes.grid(color="#EBEBEB", lw=0.6)
    axes.set_axisbelow(True)
    for text, above, colour in (("A better", 1, A_BETTER), ("B better", -1, B_BETTER)):
        at = (0.15 - 0.025 * above, 0.15 + 0.025 * above)  # beside the diagonal's lower end, where few marks are
        beside = {"rotation": 45, "ha": "center", "va": "center", "color": colour, "fontweight": "bold"}
        axes.text(*at, text, transform=axes.transAxes, **beside)


def _area(count: np.ndarray | int, largest: int) -> np.ndarray | float:
    return SMALLEST_AREA + (LARGEST_AREA - SMALLEST_AREA) * count / largest


def _colours(differences: np.ndarray) -> np.ndarray:
    """A colour for each A − B, (n,)."""
    return np.select([differences > 0, differences < 0], [A_BETTER, B_BETTER], NEITHER)
