"""What a predictor says, and how it is asked on the command line."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.errors import FewShotError
from fewshot.images.formats import is_image


@dataclass(frozen=True)
class Answers:
    """What is said of n images.

    Attributes:
        labels: the answer for each, a class or the predictor's `unknown`.
        probabilities: (n, n_classes), columns in the order of `Predictor.classes`.
        accepted: (n,) bool, whether it is taken for one of the classes; all where no `false_accept_rate` was set.
        known: (n,) how well it fits any class, higher for images of known ones; None where nothing is refused.
        sets: for each the classes that may be right, likeliest first; None where none were asked for.
    """

    labels: list[Any]
    probabilities: np.ndarray
    accepted: np.ndarray
    known: np.ndarray | None = None
    sets: list[list[Any]] | None = None


def run(load: Callable[[Path], Any], home: Path, arguments: Sequence[str] | None = None) -> int:
    """Answer about photographs from the command line: one line each, path, answer and probability.

    Args:
        load: a `Predictor` of a folder.
        home: the folder, where none is named.
        arguments: the words of the command line.

    Returns:
        The exit status: 2 where something is wrong, which is said in a sentence.
    """
    parser = argparse.ArgumentParser(description="Ask the classifier in this folder about photographs.")
    parser.add_argument("photos", nargs="+", type=Path, help="files, or folders of them")
    parser.add_argument("--folder", type=Path, default=home, help="of the classifier")
    parser.add_argument("--support", type=Path, help="a folder of photographs for each class, learned first")
    asked = parser.parse_args(arguments)
    try:
        predictor = load(asked.folder)
        if asked.support is not None:
            files = [(f, d.name) for d in sorted(asked.support.iterdir()) if d.is_dir() for f in _list_photographs(d)]
            predictor.fit([file for file, _ in files], [name for _, name in files])
        paths = [path for place in asked.photos for path in _list_photographs(place)]
        pixels, bad = predictor.read(paths)
        good = [number for number in range(len(paths)) if number not in bad]
        said = list(_format_answers(predictor.answer(predictor.encode(pixels[good])))) if good else []
    except (FewShotError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for number, line in zip(good, said, strict=True):
        print(f"{paths[number]}\t{line}")
    for sentence in bad.values():
        print(f"error: {sentence}", file=sys.stderr)
    return 2 if bad else 0


def _format_answers(answers: Answers) -> Iterator[str]:
    for label, probabilities in zip(answers.labels, answers.probabilities, strict=True):
        yield f"{label}\t{probabilities.max():.3f}"


def _list_photographs(place: Path) -> list[Path]:
    return sorted(p for p in place.rglob("*") if is_image(p.name)) if place.is_dir() else [place]
