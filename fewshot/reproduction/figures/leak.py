"""Draws what accuracy owes to groups on both sides of an episode: one class of an episode, and all methods."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fewshot.datasets import ImageSet
from fewshot.evaluation.report import format_signed_percent
from fewshot.evaluation.style import BLUE, GREEN, GREY, PALE, VERMILION, figure_style, save_figure
from fewshot.reproduction.tables.accuracies import Row, shorten
from fewshot.reproduction.tables.leak import compute_leak, find_pairs
from fewshot.sampling.episodes import EpisodeSampler
from fewshot.sampling.spec import EpisodeSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRACKS, FRAMES = 7, 10  # of the smallest classes of GTSRB, with every third frame
EXAMPLE = EpisodeSpec(n_way=5, n_shot=5, n_query=15)
ROW_GAP = 0.16  # between the two marks of a method


def draw_leak(rows: Sequence[Row], cells: Sequence[str], facts: str, path: Path) -> list[Path]:
    """Draw an example of both kinds of episode beside the accuracies of each row with its variant.

    Args:
        rows: the rows of the tables.
        cells: a panel for each.
        facts: a line below the figure.
        path: of the file, without regard to its suffix.

    Returns:
        The files, SVG and PNG; none if no row has such a variant.
    """
    from matplotlib.figure import Figure

    pairs = find_pairs(rows)
    if not pairs:
        return []
    with figure_style():
        figure = Figure(figsize=(4.2 + 3.6 * len(cells), 4.6), layout="constrained")
        left, right = np.asarray(figure.subfigures(1, 2, width_ratios=[4.2, 3.6 * len(cells)])).tolist()
        examples = left.subplots(2, 1)
        _draw_example(examples[0], disjoint=False)
        _draw_example(examples[1], disjoint=True)
        panels = np.atleast_1d(right.subplots(1, len(cells), sharey=True))
        for axes, cell in zip(panels, cells, strict=True):
            _draw_accuracies(axes, pairs, cell)
        panels[0].set_yticks(range(len(pairs)), [shared.title for shared, _ in pairs])
        panels[0].invert_yaxis()
        panels[0].legend(loc="upper left", bbox_to_anchor=(0, -0.1), ncols=2)
        figure.supxlabel(facts, fontsize=8, color=GREY)
        return save_figure(figure, path)


def choose_example(disjoint: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw an episode; returns the places (track, frame) of support and queries of its first class, (n, 2) each."""
    n_images = TRACKS * FRAMES
    n_way = EXAMPLE.n_way
    assert isinstance(n_way, int)
    groups = np.repeat(np.arange(n_way * TRACKS), FRAMES)
    pixels = torch.zeros(len(groups), 1, 1, 1, dtype=torch.uint8)
    labels = np.repeat(np.arange(n_way), n_images)
    signs = ImageSet(pixels, labels, [str(label) for label in range(n_way)], groups=groups)
    spec = EpisodeSpec(EXAMPLE.n_way, EXAMPLE.n_shot, EXAMPLE.n_query, disjoint)
    episode = EpisodeSampler(signs, spec).batch(0, 1)
    of_first = [rows[labels == 0].numpy() % n_images for rows, labels in
                ((episode.support, episode.support_labels), (episode.query, episode.query_labels))]  # fmt: skip
    support, query = (np.stack(np.divmod(rows, FRAMES), 1) for rows in of_first)
    return support, query


def _draw_example(axes: "Axes", disjoint: bool) -> None:
    """Show the frames of one class: what is support, and which queries show a sign of the support."""
    support, query = choose_example(disjoint)
    seen = np.isin(query[:, 0], support[:, 0])
    track, frame = np.indices((TRACKS, FRAMES)).reshape(2, -1)
    axes.scatter(frame, track, 14, PALE)
    axes.scatter(support[:, 1], support[:, 0], 34, BLUE, label="support")
    axes.scatter(query[~seen, 1], query[~seen, 0], 34, GREEN, marker="D", label="query, another sign")
    axes.scatter(query[seen, 1], query[seen, 0], 40, VERMILION, marker="X", label="query, a sign of the support")
    what = "tracks apart" if disjoint else f"tracks shared: {seen.sum()} of {len(query)} queries show a known sign"
    axes.set_title(what)
    axes.set_yticks(range(TRACKS), [f"sign {number}" for number in range(1, TRACKS + 1)])
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    if disjoint:
        axes.set_xlabel("frames of a track")
        axes.legend(loc="upper left", bbox_to_anchor=(-0.15, -0.12), ncols=1)


def _draw_accuracies(axes: "Axes", pairs: Sequence[tuple[Row, Row]], cell: str) -> None:
    """Show each method with groups shared and apart, and the difference beside it."""
    for place, (shared, apart) in enumerate(pairs):
        leak = compute_leak(shared, apart, cell)
        if leak is None:
            continue
        means = []
        for row, colour, up in ((shared, VERMILION, -ROW_GAP), (apart, BLUE, ROW_GAP)):
            mean, half = (100 * value for value in row.estimate(cell))
            label = (apart.name.rpartition(", ")[2] if row is apart else "shared") if place == 0 else None
            axes.errorbar(mean, place + up, xerr=half, fmt="o", ms=5, color=colour, lw=1.5, label=label)
            means.append(mean)
        axes.annotate(
            format_signed_percent(leak), (max(means), place), (12, 0), textcoords="offset points", va="center",
            fontsize=8, color=GREY,
        )  # fmt: skip
    axes.set_title(f"{shorten(cell)}: accuracy (%), and the leak")
    axes.margins(x=0.3)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
