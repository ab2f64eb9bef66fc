"""Draw the pictures of docs/concepts, from glyphs, traffic signs and stored results: python docs/draw.py [NAME …]."""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fewshot import EpisodeSampler, EpisodeSpec, create_backbone, create_method, embed, evaluate, load_dataset
from fewshot.evaluation.records import Measured
from fewshot.evaluation.report import format_percent, format_signed_percent
from fewshot.evaluation.statistics import compute_mean_interval, compute_paired_difference
from fewshot.evaluation.style import BLUE, GREY, ORANGE, VERMILION, figure_style, save_figure
from fewshot.reproduction.comparison.paired import compute_unpaired_half_width
from fewshot.reproduction.results import Result

ROOT = Path(__file__).parents[1]
CONCEPTS = ROOT / "docs" / "concepts"
SIZE = (7.2, 2.6)


def draw_episode() -> Figure:
    """Five classes, a support image of each, and nine queries of each."""
    test_set = load_dataset("glyphs", "test")
    episode = EpisodeSampler(test_set, EpisodeSpec(5, 1, 9), seed=0).batch(0, 1).fill(test_set)
    figure = Figure(figsize=(7.2, 2.0))
    sheets = (
        (episode.support, episode.support_labels, 1, "support"),
        (episode.query, episode.query_labels, 9, "queries"),
    )
    for (images, labels, columns, title), place in zip(
        sheets, ((0.33, 0.02, 0.06, 0.86), (0.43, 0.02, 0.46, 0.86)), strict=True
    ):
        axes = figure.add_axes(place)
        rows = [255 - images[0][labels[0] == label][:, 0] for label in range(5)]  # (n, 28, 28) of each class
        axes.imshow(np.vstack([np.hstack(list(row[:columns])) for row in rows]), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, loc="left", color=GREY)
        axes.set(
            xticks=np.arange(1, columns) * 28 - 0.5, yticks=np.arange(1, 5) * 28 - 0.5, xticklabels=[], yticklabels=[]
        )
        axes.tick_params(length=0)
        axes.grid(color="#BBBBBB", linewidth=0.8)
        axes.spines[:].set_visible(True)
    for label, c in enumerate(episode.classes[0]):
        name = test_set.class_names[int(c)].partition(" ")[2].lower()  # without the alphabet and the code point
        figure.text(0.325, 0.02 + 0.86 * (4.5 - label) / 5, name, ha="right", va="center")
    return figure


def draw_leak() -> Figure:
    """Traffic signs, with frames of one track on both sides of an episode and on one side only."""
    signs = load_dataset("gtsrb", "test", size_px=48, every=10)
    backbone = create_backbone("pixels", 3, 48)
    features = embed(backbone, signs)
    figure = Figure(figsize=(7.2, 2.4))
    axes = figure.add_axes((0.33, 0.27, 0.45, 0.7))
    names = ("tracks shared", "tracks kept apart")
    for y, (name, disjoint, colour) in enumerate(zip(names, (False, True), (VERMILION, BLUE), strict=True)):
        spec = EpisodeSpec(5, 5, 6, disjoint_groups=disjoint)  # the rarest signs have seven tracks
        draw_bar(axes, y, name, evaluate(create_method("nearest", backbone), features, spec, 1000, 0), colour)
    axes.set(yticks=[], ylim=(1.5, -0.5), xlim=(0, 100), xlabel="accuracy (%)")
    figure.text(0.33, 0.02, "nearest neighbour on raw pixels of gtsrb, 5-way 5-shot", color=GREY, fontsize=8)
    return figure


def draw_transductive() -> Figure:
    """MAML's stored rows on Omniglot, of the same weights."""
    records = read_records("omniglot", "maml")
    figure = Figure(figsize=(7.2, 2.2))
    axes = figure.add_axes((0.33, 0.34, 0.45, 0.62))
    rows = (("trained", "inductive", BLUE), ("transductive", "transductive", ORANGE))
    for y, (row, name, colour) in enumerate(rows):
        measured = next(m for m in records[row] if m.cell == "5-way 1-shot")
        mean, half = (100 * value for value in measured.estimate)
        axes.errorbar(mean, y, xerr=half, fmt="o", color=colour, capsize=4)
        name_row(axes, y, name, format_percent(measured.estimate))
    axes.set(yticks=[], ylim=(1.5, -0.5), xlim=(94, 96.5), xlabel="accuracy (%)")
    axes.grid(axis="x")
    figure.text(0.33, 0.02, "MAML on Omniglot, 5-way 1-shot, seed 0, 1,000 episodes", color=GREY, fontsize=8)
    return figure


def draw_intervals() -> Figure:
    """The episodes behind a mean, and the half-width against their number."""
    measured = next(m for m in read_records("cifar_fs", "protonet")["trained"] if m.cell == "5-way 1-shot")
    accuracy = 100 * measured.accuracy
    figure = Figure(figsize=SIZE)
    left, right = figure.add_axes((0.08, 0.2, 0.4, 0.66)), figure.add_axes((0.6, 0.2, 0.36, 0.66))
    left.hist(accuracy, bins=np.arange(-0.5, 76) / 75 * 100, color=BLUE, alpha=0.5)
    mean, half = (100 * value for value in measured.estimate)
    left.axvspan(mean - half, mean + half, color=VERMILION, alpha=0.6, linewidth=0)
    left.set_title(f"{len(accuracy):,} episodes: {mean:.2f} ± {half:.2f}")
    left.set(xlabel="accuracy of an episode (%)", ylabel="episodes", xlim=(10, 100))
    counts = np.unique(np.geomspace(10, len(accuracy), 40).astype(int))
    right.plot(counts, [compute_mean_interval(accuracy[:n]).half_width_95 for n in counts], color=BLUE)
    right.set(xscale="log", yscale="log", xlabel="episodes", title="half-width of the interval")
    right.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    right.set_xticks([10, 100, 1000], ["10", "100", "1,000"])
    right.minorticks_off()
    right.grid()
    return figure


def draw_paired() -> Figure:
    """The difference of two stored methods, with the paired interval and with Welch's."""
    a, b = (
        next(m for m in read_records("cifar_fs", name)["trained"] if m.cell == "5-way 5-shot").accuracy
        for name in ("protonet", "r2d2")
    )
    paired = compute_paired_difference(a, b)
    unpaired = paired._replace(half_width_95=compute_unpaired_half_width(a, b))
    figure = Figure(figsize=(7.2, 2.0))
    axes = figure.add_axes((0.33, 0.3, 0.45, 0.64))
    for y, (name, estimate, colour) in enumerate(
        (("as if on other episodes", unpaired, GREY), ("paired by episode", paired, BLUE))
    ):
        mean, half = (100 * value for value in estimate)
        axes.errorbar(mean, y, xerr=half, fmt="o", color=colour, capsize=4)
        name_row(axes, y, name, format_signed_percent(estimate))
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set(yticks=[], ylim=(-0.6, 1.6), xlabel="ProtoNet − R2D2 on CIFAR-FS, 5-way 5-shot, 1,000 episodes (points)")
    return figure


def draw_calibration() -> Figure:
    """Right answers against probability, before and after a temperature of other episodes."""
    test_set = load_dataset("glyphs", "test")
    method = create_method("protonet", create_backbone("pixels", 1, 28)).eval()
    sampler = EpisodeSampler(test_set, EpisodeSpec(5, 5, 15), seed=0)

    def answer(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        episodes = sampler.batch(first, count).fill(test_set)
        with torch.no_grad():
            logits = method(episodes.support, episodes.support_labels, episodes.query, 5)
        return logits.flatten(0, 1), episodes.query_labels.flatten()

    logits, labels = answer(0, 200)
    factors = torch.logspace(-3, 3, 400)
    losses = [torch.nn.functional.cross_entropy(logits * factor, labels) for factor in factors]
    factor = factors[int(torch.stack(losses).argmin())]
    logits, labels = answer(200, 200)
    figure = Figure(figsize=(7.2, 3.0))
    settings = (
        ("own logits", 1.0, VERMILION, (0.09, 0.17, 0.38, 0.7)),
        ("with a temperature", factor, BLUE, (0.58, 0.17, 0.38, 0.7)),
    )
    for title, by, colour, place in settings:
        axes = figure.add_axes(place)
        top, guess = (logits * by).softmax(-1).max(-1)
        right = (guess == labels).float()
        bins = (top * 10).long().clamp(max=9)
        used = [b for b in range(10) if (bins == b).sum() >= 20]
        sure, share = (np.array([float(v[bins == b].mean()) for b in used]) for v in (top, right))
        weights = np.array([int((bins == b).sum()) for b in used])
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        axes.plot(sure, share, "o-", color=colour)
        error = (weights * abs(sure - share)).sum() / weights.sum()
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the answer", ylabel="share of right answers")
        axes.set_title(f"{title}: calibration error {100 * error:.1f}")
        axes.grid()
    return figure


def draw_bar(axes: Axes, y: int, name: str, measured: Measured, colour: str) -> None:
    """A bar from 0 with its interval, named at the left, its number at the right."""
    mean, half = (100 * value for value in measured.estimate)
    axes.barh(y, mean, 0.55, color=colour, alpha=0.75, xerr=half, error_kw={"capsize": 3, "ecolor": "black"})
    name_row(axes, y, name, format_percent(measured.estimate))


def name_row(axes: Axes, y: int, name: str, number: str) -> None:
    """Write the name of a row left of the axes, and its number right of them."""
    axes.text(-0.03, y, name, transform=axes.get_yaxis_transform(), va="center", ha="right")
    axes.text(1.03, y, number, transform=axes.get_yaxis_transform(), va="center")


def read_records(dataset: str, recipe: str) -> dict[str, list[Measured]]:
    """The stored records of seed 0, by row."""
    return Result.read(ROOT / "results" / dataset / f"{recipe}-seed0.json").records


DRAWINGS = {
    "episode": draw_episode, "leak": draw_leak, "transductive": draw_transductive, "intervals": draw_intervals,
    "paired": draw_paired, "calibration": draw_calibration,
}  # fmt: skip

if __name__ == "__main__":
    for name in sys.argv[1:] or DRAWINGS:
        with figure_style():
            svg, png = save_figure(DRAWINGS[name](), CONCEPTS / name)
        png.unlink()
        print(svg)
