"""Draws pictures of episodes, of wrong answers and of classes that are confused."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, from_numpy

from fewshot.datasets import ImageSet
from fewshot.sampling.episodes import PADDING, Episode, EpisodeSampler
from fewshot.training.tracking.answers import Answers, Pair

RIGHT, WRONG, EDGE, INK, PAPER = (0, 114, 178), (213, 94, 0), (150, 150, 150), (40, 40, 40), (255, 255, 255)
THUMBNAIL_PX, TEXT_PX, LINE_PX, NAME_PX = 56, 12, 15, 170
NAME_LINES = 4  # of a name beside its row
MOST_QUERIES = 15  # for each class in the picture of an episode
N_EXAMPLES = 6  # images of each class of a hard pair


def draw_episode(episode: Episode, logits: Tensor, b: int, names: Sequence[str]) -> np.ndarray:
    """Draw episode b of a batch of images, (height, width, 3) uint8.

    Each row shows a class: its number and name, its support images and its queries, ordered by the probability of
    their class, lowest first. A wrongly classified query has an orange frame and the number of the predicted class
    below it. `names`: of all classes of the image set.
    """
    probabilities = logits[b].float().softmax(-1).cpu()  # (n_query, n_way)
    support_labels, query_labels = episode.support_labels[b].cpu(), episode.query_labels[b].cpu()
    called = [f"{n}  {names[int(c)]}" if c != PADDING else "" for n, c in enumerate(episode.classes[b].cpu(), start=1)]
    shots = max(int((support_labels == label).sum()) for label in range(episode.n_way))
    queries = max(int((query_labels == label).sum()) for label in range(episode.n_way))
    width, height, top = THUMBNAIL_PX + 6, THUMBNAIL_PX + 6 + TEXT_PX + 4, 18
    start = NAME_PX + shots * width + 14  # left edge of the queries
    sheet, draw = _make_sheet(start + min(queries, MOST_QUERIES) * width, top + episode.n_way * height)
    _write(draw, (NAME_PX, 2), "support", shots * width + 10, EDGE)
    _write(
        draw, (start, 2), "queries, the most doubtful first; orange: wrong, with the number of the answer", 10_000, EDGE
    )
    for label, name in enumerate(called):
        y = top + label * height
        lines = wrap_text(name, NAME_PX - 10)
        for line, text in enumerate(lines):
            _write(draw, (4, y + (THUMBNAIL_PX - len(lines) * LINE_PX) // 2 + line * LINE_PX), text, NAME_PX - 10, INK)
        for column, i in enumerate((support_labels == label).nonzero().flatten().tolist()):
            _paste(sheet, episode.support[b, i], (NAME_PX + column * width, y), THUMBNAIL_PX, EDGE)
        own = (query_labels == label).nonzero().flatten()
        doubtful_first = own[probabilities[own, label].argsort(stable=True)]
        for column, i in enumerate(doubtful_first[:MOST_QUERIES].tolist()):
            answer, x = int(probabilities[i].argmax()), start + column * width
            _paste(sheet, episode.query[b, i], (x, y), THUMBNAIL_PX, RIGHT if answer == label else WRONG)
            if answer != label:
                _write(draw, (x + 2, y + THUMBNAIL_PX + 4), f"as {answer + 1}", width - 2, WRONG)
    return np.asarray(sheet)


def draw_most_wrong(answers: Answers, imageset: ImageSet, sampler: EpisodeSampler, count: int = 24) -> np.ndarray:
    """Draw the wrong queries whose class had the lowest probability, (height, width, 3) uint8.

    Beside each query are a support image of its class and one of the predicted class.
    """
    columns, width, height = 2, 440, 96
    shown = answers.most_wrong(count).tolist()
    sheet, draw = _make_sheet(columns * width, max(1, -(-len(shown) // columns)) * height)
    if not shown:
        _write(draw, (8, 8), "no query was answered wrongly", width, INK)
    for number, i in enumerate(shown):
        y, x = (at * length for at, length in zip(divmod(number, columns), (height, width), strict=True))
        own, answer = int(answers.classes[i]), int(answers.answers[i])
        _paste(sheet, _get_image(imageset, answers.rows[i]), (x + 4, y + 4), 80, WRONG)
        episode = sampler.batch(int(answers.episodes[i]), 1)
        for line, (class_id, what, probability) in enumerate(
            ((own, "is", answers.p_class[i]), (answer, "taken for", answers.p_answer[i]))
        ):
            label = int((episode.classes[0] == class_id).nonzero()[0, 0])
            row = episode.support[0][episode.support_labels[0] == label][0]
            _paste(sheet, _get_image(imageset, row), (x + 96, y + 4 + 44 * line), 36, RIGHT if line == 0 else WRONG)
            _write(draw, (x + 142, y + 8 + 44 * line), imageset.class_names[class_id], width - 150, INK)
            _write(
                draw,
                (x + 142, y + 24 + 44 * line),
                f"{what}, with probability {100 * probability:.1f}%",
                width - 150,
                EDGE,
            )
    return np.asarray(sheet)


def draw_pairs(pairs: Sequence[Pair], answers: Answers, imageset: ImageSet) -> np.ndarray:
    """Draw two classes in each row: queries of each that were predicted as the other (orange), then others (grey)."""
    cell = THUMBNAIL_PX + 6
    half, height = N_EXAMPLES * cell + 24, THUMBNAIL_PX + 6 + 2 * (TEXT_PX + 6)
    sheet, draw = _make_sheet(2 * half, max(1, len(pairs)) * height)
    if not pairs:
        _write(draw, (8, 8), "no query was answered wrongly", half, INK)
    for number, pair in enumerate(pairs):
        for side, (own, other) in enumerate(((pair.a, pair.b), (pair.b, pair.a))):
            x, y = side * half + 4, number * height
            _write(draw, (x, y + 2), imageset.class_names[own], half - 24, INK)
            times = f"taken for the other: {pair.wrong[side]} of {pair.asked[side]} queries"
            _write(draw, (x, y + 2 + TEXT_PX + 4), times, half - 24, EDGE)
            mistaken = answers.rows[(answers.classes == own) & (answers.answers == other)]
            mistaken = list(dict.fromkeys(mistaken.tolist()))[:N_EXAMPLES]
            others = [row for row in np.flatnonzero(imageset.labels == own).tolist() if row not in mistaken]
            for column, row in enumerate([*mistaken, *others][:N_EXAMPLES]):
                place = (x + column * cell, y + 2 * (TEXT_PX + 6))
                _paste(sheet, _get_image(imageset, row), place, THUMBNAIL_PX, WRONG if column < len(mistaken) else EDGE)
    return np.asarray(sheet)


def make_thumbnail(image: Tensor, size_px: int) -> Image.Image:
    """Make a square picture of a uint8 image (C, H, W) with 1 or 3 channels."""
    pixels = image.cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((size_px, size_px), Image.Resampling.BILINEAR)


def _get_image(imageset: ImageSet, row: int | np.integer | Tensor) -> Tensor:
    return imageset.gather(from_numpy(np.array(int(row))))


def _make_sheet(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    sheet = Image.new("RGB", (width, height), PAPER)
    return sheet, ImageDraw.Draw(sheet)


def _paste(sheet: Image.Image, image: Tensor, at: tuple[int, int], size_px: int, frame: tuple[int, int, int]) -> None:
    """Paste a square picture with a frame of two pixels, whose upper left corner is `at`."""
    x, y = at
    ImageDraw.Draw(sheet).rectangle((x, y, x + size_px + 3, y + size_px + 3), fill=frame)
    sheet.paste(make_thumbnail(image, size_px), (x + 2, y + 2))


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width_px: int, colour: tuple[int, int, int]
) -> None:
    """Write one line of text, shortened in the middle if it is too long."""
    draw.text(at, fit_text(text, width_px), fill=colour, font=_load_font())


def fit_text(text: str, width_px: int) -> str:
    """Shorten text to `width_px` by replacing its middle by an ellipsis, since names differ at their ends."""
    kept, short = len(text), text
    while kept > 1 and _load_font().getlength(short) > width_px:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def wrap_text(text: str, width_px: int) -> list[str]:
    """Break text at spaces and slashes into at most `NAME_LINES` lines of `width_px`; the last one is shortened."""
    lines: list[str] = []
    words = re.findall(r"[^ /]+[ /]*", text)
    while words:
        count = len(words) if len(lines) == NAME_LINES - 1 else 1
        while count < len(words) and _load_font().getlength("".join(words[: count + 1]).rstrip()) <= width_px:
            count += 1
        lines.append(fit_text("".join(words[:count]).rstrip(), width_px))
        words = words[count:]
    return lines


@cache
def _load_font() -> ImageFont.FreeTypeFont:
    import matplotlib  # its font has the letters of most alphabets

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", TEXT_PX)
