"""Draws charts of an evaluation's answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fewshot.evaluation.records import Records
from fewshot.evaluation.report import format_percent
from fewshot.evaluation.style import BLUE, GREY, PALE, VERMILION, figure_style, shorten
from fewshot.training.tracking.answers import Answers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 20  # in a chart; with more classes, the hardest are shown
NAME_LENGTH = 44  # longer names lose their middle
DPI = 110


def draw_calibration(answers: Answers) -> np.ndarray:
    """Draw the accuracy of answers by their probability, and their number, (height, width, 3) uint8."""
    with figure_style():
        figure, axes = _make_figure(4.4, 4.3, left=0.6, bottom=0.5)
        bins = answers.calibration()
        x, y, n = np.array(bins).T
        axes.plot([0, 100], [0, 100], color=GREY, lw=0.8, label="as right as it is sure")
        axes.bar(100 * x, 100 * n / n.sum(), width=3, color=PALE, label="share of the answers")
        axes.plot(100 * x, 100 * y, "o-", color=BLUE, ms=4, label="right answers")
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xlabel="probability of the answer (%)", ylabel="%")
        axes.set_title(f"Calibration: expected error {100 * answers.calibration_error:.1f} percentage points")
        axes.legend(loc="upper left")
        return _render(figure)


def draw_class_accuracy(answers: Answers, names: Sequence[str]) -> np.ndarray:
    """Draw the accuracy on each class, or on the hardest ones, and the mean over all, (height, width, 3) uint8."""
    accuracy, asked = answers.class_accuracy, answers.asked.diagonal()
    order = np.argsort(accuracy, kind="stable")[: np.isfinite(accuracy).sum()]  # NaN is sorted to the end
    shown = order[:MOST_CLASSES]
    called = [f"{shorten(names[c], NAME_LENGTH)}  ({asked[c]})" for c in shown]
    with figure_style():
        left = _measure(called, 8)
        figure, axes = _make_figure(3.1 + left, 1.3 + 0.2 * len(shown), left=left, bottom=0.8)
        mean = 100 * float((answers.classes == answers.answers).mean())
        axes.axvline(mean, color=VERMILION, lw=1, label=f"all queries: {mean:.1f}")
        axes.hlines(range(len(shown)), 0, 100 * accuracy[shown], color=PALE, lw=2, zorder=1)
        axes.plot(100 * accuracy[shown], range(len(shown)), "o", color=BLUE, ms=4, label="a class")
        axes.set_yticks(range(len(shown)), called, parse_math=False)
        axes.tick_params(axis="y", labelsize=8)
        axes.set(xlim=(0, 101), ylim=(len(shown) - 0.4, -0.6), xlabel="accuracy (%); in brackets: queries")
        which = f"the {len(shown)} hardest of {len(order)}" if len(shown) < len(order) else f"all {len(order)}"
        figure.suptitle(f"Accuracy on each class: {which}", x=0.01, ha="left", fontsize=10)
        axes.grid(axis="x")
        figure.legend(loc="lower right", ncols=2)
        return _render(figure)


def draw_confusion(answers: Answers, names: Sequence[str]) -> np.ndarray:
    """Draw how often queries of a class are predicted as another class of their episode, for the hardest classes."""
    wrong = answers.confusion - np.diag(answers.confusion.diagonal())
    shown = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:MOST_CLASSES])
    counts, asked = (table[np.ix_(shown, shown)] for table in (wrong, answers.asked))
    shares = np.where((asked > 0) & ~np.eye(len(shown), dtype=bool), 100 * counts / np.maximum(asked, 1), np.nan)
    called = [shorten(names[c], NAME_LENGTH) for c in shown]
    with figure_style():
        left, side = _measure(called, 7), 0.2 * max(8, len(shown))
        figure, axes = _make_figure(1.1 + left + side, 0.4 + left + side, left=left, bottom=left, right=1.1)
        axes.set_facecolor("#F2F2F2")  # colour of pairs that were never in one episode
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(1.0, float(np.nanmax(shares, initial=0.0))))
        axes.set_xticks(range(len(shown)), called, rotation=90, parse_math=False)
        axes.set_yticks(range(len(shown)), called, parse_math=False)
        axes.tick_params(length=0, labelsize=7)
        axes.set(xlabel="taken for", ylabel="class of the query")
        which = f"the {len(shown)} hardest of {len(wrong)} classes" if len(shown) < len(wrong) else "all classes"
        figure.suptitle(f"Confusion: {which}", x=0.01, ha="left", fontsize=10)
        bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.04, 1)))
        bar.set_label("% of the queries that met the other class (grey: none did)")
        bar.outline.set_visible(False)
        return _render(figure)


def draw_episode_accuracies(records: Records) -> np.ndarray:
    """Draw a histogram of the accuracies of the episodes, (height, width, 3) uint8."""
    accuracy = 100 * records.accuracy
    mean, half = (100 * value for value in records.estimate)
    with figure_style():
        figure, axes = _make_figure(4.6, 3.2, left=0.6, bottom=0.8)
        axes.hist(accuracy, bins=min(25, len(np.unique(accuracy))), color=BLUE, alpha=0.8, edgecolor="white", lw=0.5)
        axes.axvspan(mean - half, mean + half, color=VERMILION, alpha=0.3, lw=0)
        axes.axvline(
            mean, color=VERMILION, lw=1.2, label=f"mean with its 95% interval: {format_percent(records.estimate)}"
        )
        axes.set(xlabel="accuracy on an episode (%)", ylabel="episodes")
        axes.set_title(f"{records.header.n_episodes:,} episodes, {records.cell}")
        figure.legend(loc="lower right")
        return _render(figure)


def _make_figure(
    width: float, height: float, *, left: float, bottom: float, right: float = 0.2, top: float = 0.4
) -> tuple["Figure", "Axes"]:
    """Make a figure and its axes, lengths in inches; matplotlib's automatic margins take longer than the drawing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    place = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    return figure, figure.add_axes(place)


def _measure(labels: Sequence[str], size: float) -> float:
    """Measure the room in inches that the labels of an axis and its title need, written with `size` points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    widths = [text_to_path.get_text_width_height_descent(label, font, ismath=False)[0] for label in labels]
    return 0.5 + max(widths, default=0.0) / 72


def _render(figure: "Figure") -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
