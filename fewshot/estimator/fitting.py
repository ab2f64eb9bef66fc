"""The method fitted to a support set: its logits, also of images that are held out, and how sure these are."""

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
_adapting = Lock()  # methods that adapt weights swap those of a shared network: one thread at a time


class Fitted:
    """The method of `encoder` fitted to `support`.

    `adapted`: what a method that adapts weights has made of them, else None.
    """

    def __init__(self, encoder: Encoder, support: Support, n_classes: int, adapted: Any = None) -> None:
        self.encoder, self.support, self.n_classes, self.adapted = encoder, support, n_classes, adapted
        self.content = support.content.to(encoder.device)
        self.labels = torch.from_numpy(support.labels).to(encoder.device)

    @property
    def state(self) -> dict[str, Tensor] | None:
        """Tensors that the fit has changed, for methods that adapt weights, else None."""
        return None if self.adapted is None else self.adapted.state

    @torch.no_grad()
    def logits(self, queries: Tensor) -> Tensor:
        """Logits (n, n_classes) of content (n, …), on the CPU."""
        method, device = self.encoder.method, self.encoder.device
        precision = "float32" if method.uses_features else self.encoder.precision
        with autocast(precision, device), nullcontext() if method.uses_features else _adapting:
            parts = [self._logits(part.to(device)).float().cpu() for part in queries.split(QUERIES_AT_ONCE)]
        return torch.cat(parts)

    def _logits(self, queries: Tensor) -> Tensor:
        if self.adapted is not None:
            return self.adapted.logits(queries)
        method: Any = self.encoder.method
        classify = method.head if method.uses_features else method
        return classify(self.content[None], self.labels[None], queries[None], self.n_classes)[0]

    @cached_property
    def held_out(self) -> tuple[Tensor, np.ndarray]:
        """Logits (m, n_classes) of support images by fits that saw nothing of their group, and which these are (m,)."""

        def predict(rows: np.ndarray, queries: np.ndarray) -> Tensor:
            return fit(self.encoder, self.support.rows(rows), self.n_classes).logits(self.support.rows(queries).content)

        return predict_held_out(predict, self.support.labels, self.support.independent)


def learn(encoder: Encoder, support: Support, n_classes: int, calibrate: bool) -> tuple[Fitted, float | None]:
    """The method fitted to a support set, and the temperature that makes its probabilities honest on held-out images.

    The temperature is None without `calibrate`, and where no image can be held out.
    """
    fitted = fit(encoder, support, n_classes)
    if not calibrate:
        return fitted, None
    logits, rows = fitted.held_out
    if not len(rows):
        return fitted, None
    assert support.copies is not None, "calibrate on a support set whose copies were found"
    once = np.unique(support.copies[rows], return_index=True)[1]  # one of each set of copies
    labels = torch.from_numpy(support.labels[rows[once]])
    return fitted, fit_temperature(logits[torch.from_numpy(once)], labels)


def fit(encoder: Encoder, support: Support, n_classes: int, state: dict[str, Tensor] | None = None) -> Fitted:
    """The method fitted to a support set; `state`: of an earlier fit to the same one, which is taken up again."""
    method: Any = encoder.method
    if not hasattr(method, "fit_support"):
        return Fitted(encoder, support, n_classes)
    if state is not None:
        return Fitted(encoder, support, n_classes, method.restore(state, n_classes))
    content, labels = support.content.to(encoder.device), torch.from_numpy(support.labels).to(encoder.device)
    with autocast(encoder.precision, encoder.device):
        adapted = method.fit_support(content, labels, n_classes, support.independent)
    return Fitted(encoder, support, n_classes, adapted)


def predict_held_out(
    predict: Callable[[np.ndarray, np.ndarray], Tensor], labels: np.ndarray, groups: np.ndarray | None
) -> tuple[Tensor, np.ndarray]:
    """Logits (m, n_classes) of images whose group had no part in the fit, and which images these are, (m,).

    `predict(rows, queries)`: logits of the images `queries` by a classifier fitted to the images `rows`.
    """
    fold = deal_folds(labels, groups)
    logits, which = [], []
    for number in np.unique(fold[fold >= 0]):
        queries = np.flatnonzero(fold == number)
        logits.append(predict(np.flatnonzero(fold != number), queries))
        which.append(queries)
    if not which:
        return torch.zeros(0, int(labels.max()) + 1), np.zeros(0, np.int64)
    return torch.cat(logits), np.concatenate(which)
