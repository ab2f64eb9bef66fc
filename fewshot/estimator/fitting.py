"""Fits the method to a support set, predicts held-out support images, and fits the temperature to them."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewshot.estimator.confidence import fit_temperature
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.ranks import deal_folds
from fewshot.estimator.support import Support
from fewshot.runtime.precision import autocast

QUERIES_AT_ONCE = 4096
FOLD_BYTES = 1 << 26  # support features of cross-validation in one call of the head, or those of one fold
_adapting = Lock()  # methods that adapt weights replace those of one shared network, so threads take turns


class FittedMethod:
    """The method of `encoder` fitted to `support`.

    `adapted`: the result of `fit_support` of a method that adapts weights, else None.
    """

    def __init__(self, encoder: Encoder, support: Support, n_classes: int, adapted: Any = None) -> None:
        self.encoder, self.support, self.n_classes, self.adapted = encoder, support, n_classes, adapted
        self.content = support.content.to(encoder.device)
        self.labels = torch.from_numpy(support.labels).to(encoder.device)

    @property
    def state(self) -> dict[str, Tensor] | None:
        """The tensors that fitting has adapted; None for methods that adapt no weights."""
        return None if self.adapted is None else self.adapted.state

    @torch.no_grad()
    def logits(self, queries: Tensor) -> Tensor:
        """Compute logits (n, n_classes), on the CPU, for encoded images (n, …)."""
        method, device = self.encoder.method, self.encoder.device
        precision = "float32" if method.uses_features else self.encoder.precision
        with autocast(precision, device), nullcontext() if method.uses_features else _adapting:
            chunks = [self._classify(chunk.to(device)).float().cpu() for chunk in queries.split(QUERIES_AT_ONCE)]
        return torch.cat(chunks)

    def _classify(self, queries: Tensor) -> Tensor:
        if self.adapted is not None:
            return self.adapted.logits(queries)
        method: Any = self.encoder.method
        classify = method.head if method.uses_features else method
        return classify(self.content[None], self.labels[None], queries[None], self.n_classes)[0]

    @cached_property
    def held_out(self) -> tuple[Tensor, np.ndarray]:
        """Cross-validated logits (m, n_classes) of support images, and their rows (m,); see `predict_held_out`."""
        predict = self._predict_together if self.encoder.method.uses_features else self._predict_in_turn
        return predict_held_out(predict, self.support.labels, self.support.independent)

    def _predict_in_turn(self, rows: np.ndarray, queries: np.ndarray) -> Tensor:
        fitted = (fit(self.encoder, self.support.select(some), self.n_classes) for some in rows)
        content = (self.support.select(some).content for some in queries)
        return torch.stack([one.logits(images) for one, images in zip(fitted, content, strict=True)])

    @torch.no_grad()
    def _predict_together(self, rows: np.ndarray, queries: np.ndarray) -> Tensor:
        """Predict in few calls of the head: each step of a solver then serves several folds."""
        size = max(1, FOLD_BYTES // max(1, rows.shape[1] * self.content[0].nbytes))
        method: Any = self.encoder.method
        with autocast("float32", self.encoder.device):
            chunks = [
                method.predict_among(self.content, some, self.labels[some], asked, self.n_classes).float().cpu()
                for some, asked in zip(*(torch.from_numpy(x).split(size) for x in (rows, queries)), strict=True)
            ]
        return torch.cat(chunks)


def learn(encoder: Encoder, support: Support, n_classes: int, calibrate: bool) -> tuple[FittedMethod, float | None]:
    """Fit the method to a support set, and the temperature that calibrates its probabilities on held-out images.

    The temperature is None without `calibrate`, and if no image can be held out.
    """
    fitted = fit(encoder, support, n_classes)
    if not calibrate:
        return fitted, None
    logits, rows = fitted.held_out
    if not len(rows):
        return fitted, None
    assert support.copies is not None, "call Support.check before calibrating"
    once = np.unique(support.copies[rows], return_index=True)[1]  # one image of each set of copies
    labels = torch.from_numpy(support.labels[rows[once]])
    return fitted, fit_temperature(logits[torch.from_numpy(once)], labels)


def fit(encoder: Encoder, support: Support, n_classes: int, state: dict[str, Tensor] | None = None) -> FittedMethod:
    """Fit the method to a support set; `state`: restore what an earlier fit to the same support set adapted."""
    method: Any = encoder.method
    if not hasattr(method, "fit_support"):
        return FittedMethod(encoder, support, n_classes)
    if state is not None:
        return FittedMethod(encoder, support, n_classes, method.restore(state, n_classes))
    content, labels = support.content.to(encoder.device), torch.from_numpy(support.labels).to(encoder.device)
    with autocast(encoder.precision, encoder.device):
        adapted = method.fit_support(content, labels, n_classes, support.independent)
    return FittedMethod(encoder, support, n_classes, adapted)


def predict_held_out(
    predict: Callable[[np.ndarray, np.ndarray], Tensor], labels: np.ndarray, groups: np.ndarray | None
) -> tuple[Tensor, np.ndarray]:
    """Cross-validate: compute the logits of each image by a classifier that was fitted without the image's group.

    `predict(rows, queries)` fits k classifiers, each to one row of `rows` (k, n), and returns their logits
    (k, m, n_classes) of the images `queries` (k, m): folds of equal size come together. Returns logits (m, n_classes)
    and the rows (m,) of these images, fold by fold: those whose class spans several folds.
    """
    fold = deal_folds(labels, groups)
    queries = [np.flatnonzero(fold == number) for number in np.unique(fold[fold >= 0])]
    if not queries:
        return torch.zeros(0, int(labels.max()) + 1), np.zeros(0, np.int64)
    logits: dict[int, Tensor] = {}  # by the first image of a fold
    for size in sorted({len(rows) for rows in queries}):
        same = np.stack([rows for rows in queries if len(rows) == size])
        others = np.stack([np.delete(np.arange(len(labels)), rows) for rows in same])
        logits |= zip(same[:, 0].tolist(), predict(others, same), strict=True)
    return torch.cat([logits[int(rows[0])] for rows in queries]), np.concatenate(queries)
