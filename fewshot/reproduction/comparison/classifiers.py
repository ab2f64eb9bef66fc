"""Two classifiers on the same photographs: is the new one worse, and on which classes?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import bdtr

from fewshot.datasets.folder import assign_groups
from fewshot.errors import DataError
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.images.imageset import digest_images
from fewshot.images.listing import list_class_files, list_few
from fewshot.photographs.inspection.intervals import Proportion, estimate_proportion
from fewshot.photographs.serving.folder import read_head
from fewshot.photographs.serving.predictor import Predictor
from fewshot.reproduction.comparison.paired import SIGNIFICANCE, SignTest, adjust_by_holm, compute_sign_test
from fewshot.runtime.counts import format_count
from fewshot.runtime.terminal import visible_text

AT_ONCE = 256


@dataclass(frozen=True)
class Part:
    """All photographs, or those of one class: shares right with 95% intervals, and the paired test.

    `sign`: over groups, A the old classifier. `worse_p`: one-sided, that the new one is not worse; adjusted by Holm for
    all parts together.
    """

    name: str
    old: Proportion
    new: Proportion
    sign: SignTest
    worse_p: float

    @property
    def is_worse(self) -> bool:
        """Whether the new classifier is significantly worse here."""
        return self.worse_p <= SIGNIFICANCE


@dataclass(frozen=True)
class ClassifierComparison:
    """`parts`: all photographs first, then class by class.

    `n_bad`: photographs that could not be read. `learned`: those that one of the two was fitted to, which are left out.
    """

    names: tuple[str, str]
    parts: list[Part]
    n_bad: int
    learned: tuple[str, ...] = ()

    @property
    def is_worse(self) -> bool:
        """Whether the new classifier is significantly worse, overall or on a class."""
        return any(part.is_worse for part in self.parts)


def compare_classifiers(old: str, new: str, photos: str, groups: str | None = None) -> ClassifierComparison:
    """Ask two classifiers about the photographs of `photos`, one folder a class.

    A photograph that is refused counts as wrong. Photographs of one group are one observation of the tests. What one of
    the classifiers was fitted to is left out: whether it knows a photograph again is no question.

    Raises:
        DataError: for classes that a classifier does not know, and where no photograph is left.
    """
    root = Path(photos)
    files = assign_groups(root, list_class_files(root), groups)
    paths, truth = [file.path for file in files], np.array([file.class_name for file in files])
    units = np.arange(len(files)) if groups is None else np.unique([f.group for f in files], return_inverse=True)[1]
    asked = [_load(path) for path in (old, new)]
    for path, one in zip((old, new), asked, strict=True):
        missing = sorted(set(truth) - {str(name) for name in one.class_names})
        if missing:
            raise DataError(f"{path} does not know {list_few(missing)}: its classes are {list_few(one.class_names)}")
    answers = [one.answer(paths) for one in asked]
    read = np.array([all(answer is not None for answer in pair) for pair in zip(*(a for a, _ in answers), strict=True)])
    if not read.any():
        raise DataError(f"{photos}: none of its {len(paths)} photographs can be read")
    learned = answers[0][1] | answers[1][1]
    kept = read & ~learned
    if not kept.any():
        raise DataError(f"{photos}: all photographs are ones that a classifier was fitted to; compare on others")
    right = [np.array([str(a) for a in found])[kept] == truth[kept] for found, _ in answers]
    parts = compare_answers(right[0], right[1], truth[kept], units[kept])
    names = tuple(files[i].file_name for i in np.flatnonzero(learned))
    return ClassifierComparison((old, new), parts, int((~read).sum()), names)


def compare_answers(old: np.ndarray, new: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> list[Part]:
    """The parts of a comparison: `old` and `new` (n,) bool, whether right; `truth` (n,) class names, `groups` (n,)."""
    chosen = [("all photographs", np.ones(len(truth), bool))]
    chosen += [(name, truth == name) for name in dict.fromkeys(truth.tolist())]
    signs = [_test(old[rows], new[rows], groups[rows]) for _, rows in chosen]
    adjusted = adjust_by_holm([_one_sided(sign) for sign in signs])
    return [
        Part(name, _share(old[rows], groups[rows]), _share(new[rows], groups[rows]), sign, float(p))
        for (name, rows), sign, p in zip(chosen, signs, adjusted, strict=True)
    ]


def format_classifiers(compared: ClassifierComparison) -> str:
    """What is printed: a line for all photographs and for each class, then the verdict."""
    lines = [f"old: {compared.names[0]}", f"new: {compared.names[1]}"]
    if compared.n_bad:
        lines.append(f"left out: {format_count(compared.n_bad, 'photograph')} that cannot be read")
    if compared.learned:
        known = format_count(len(compared.learned), "photograph")
        lines.append(f"left out: {known} that a classifier was fitted to: {visible_text(list_few(compared.learned))}")
    lines += ["", "| | photographs | old right | new right | only old right | only new right | p (worse) |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for part in compared.parts:
        shares = [f"{x.mean:.1%} ({x.low:.1%} to {x.high:.1%})" for x in (part.old, part.new)]
        name = visible_text(part.name).replace("|", "\\|")
        counts = f"{part.sign.a_better} | {part.sign.b_better}"
        lines.append(f"| {name} | {part.old.n_images} | {' | '.join(shares)} | {counts} | {part.worse_p:.3g} |")
    worse = [visible_text(part.name) for part in compared.parts if part.is_worse]
    verdict = (
        f"The new classifier is significantly worse: {', '.join(worse)}."
        if worse
        else "The new classifier is not significantly worse, neither overall nor on a class."
    )
    unit = "groups" if compared.parts[0].old.n_groups < compared.parts[0].old.n_images else "photographs"
    return "\n".join([*lines, "", f"{verdict} One-sided sign tests over {unit}, 5% for all of them together (Holm)."])


def _share(right: np.ndarray, groups: np.ndarray) -> Proportion:
    alone = len(np.unique(groups)) == len(groups)
    return estimate_proportion(right.astype(float), np.ones(len(right)), None if alone else groups)


def _test(old: np.ndarray, new: np.ndarray, groups: np.ndarray) -> SignTest:
    """Over groups: how many more of a group's photographs the old one had right."""
    number = np.unique(groups, return_inverse=True)[1]
    return compute_sign_test(np.bincount(number, old.astype(float) - new.astype(float)))


def _one_sided(sign: SignTest) -> float:
    """The chance of so many groups or more on which the old one was better, were both alike."""
    return float(bdtr(float(sign.b_better), sign.a_better + sign.b_better, 0.5))


class _Asked:
    """A classifier of either kind: names of classes, and an answer for each photograph, None for unreadable ones.

    `digests` (n, 8): of the pixels that it was fitted to; None where it has none.
    """

    def __init__(self, class_names: Sequence[str], read: Any, answer: Any, digests: np.ndarray | None) -> None:
        self.class_names, self._read, self._answer = class_names, read, answer
        self._fitted_to = set() if digests is None else set(map(bytes, digests))

    def answer(self, paths: Sequence[Path]) -> tuple[list[Any], np.ndarray]:
        """Answer about each photograph, and say whether it was fitted to it, (n,) bool."""
        found: list[Any] = [None] * len(paths)
        learned = np.zeros(len(paths), bool)
        for start in range(0, len(paths), AT_ONCE):
            pixels, bad = self._read(paths[start : start + AT_ONCE])
            good = [i for i in range(len(pixels)) if i not in bad]
            if good:
                digests = digest_images(np.asarray(pixels[good]))
                for i, label, digest in zip(good, self._answer(pixels[good]), digests, strict=True):
                    found[start + i], learned[start + i] = label, bytes(digest) in self._fitted_to
        return found, learned


def _load(path: str) -> _Asked:
    if Path(path).is_dir():
        predictor = Predictor(path)
        names = [str(name) for name in predictor.classes]
        _, known = read_head(Path(path), predictor.facts)
        digests = None if known is None else known.support.digests
        return _Asked(names, predictor.read, lambda pixels: predictor.answer(predictor.encode(pixels)).labels, digests)
    classifier = FewShotClassifier.load(path)
    names = [str(name) for name in classifier.classes_]
    read, digests = classifier.inputs_.read, classifier.support_.digests
    return _Asked(names, read, lambda pixels: classifier.predict(list(pixels)).tolist(), digests)
