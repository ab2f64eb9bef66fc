"""What it costs to answer "none of these", in words: estimated from the photographs that were left out."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fewshot.config.classifier import RefusalOptions
from fewshot.estimator.fitting import FittedMethod
from fewshot.estimator.rejection import Rejection
from fewshot.photographs.inspection.intervals import Proportion, estimate_proportion

TOO_MANY = 1 / 3  # of one's own photographs refused: then a warning says what to do


@dataclass(frozen=True)
class RefusalPrice:
    """What a threshold does with photographs that it did not see.

    `refused`: share of photographs of the classes that are refused, `accuracy`: of the others the share of right
    answers; both None where no photograph can be left out, the latter also where all are refused. `accepted`: share of
    photographs of other things that are taken for a class: of each class, where it was taken for unknown.
    """

    refused: Proportion | None
    accuracy: Proportion | None
    accepted: Proportion

    @classmethod
    def estimate(cls, fitted: FittedMethod, rejection: Rejection) -> Self:
        """Of a fitted method and its threshold, with intervals by group, and of what is accepted by class."""
        scores, (logits, rows) = rejection.scores, fitted.held_out
        labels, groups = fitted.support.labels, fitted.support.independent
        accepted = (scores.unknown >= rejection.threshold).astype(float)
        of_others = estimate_proportion(accepted, np.ones(len(labels)), labels)
        if not len(rows):
            return cls(None, None, of_others)
        by = None if groups is None else groups[rows]
        right, kept = logits.argmax(1).numpy() == labels[rows], scores.known >= rejection.threshold
        refused = estimate_proportion(1.0 - kept, np.ones(len(rows)), by)
        accuracy = estimate_proportion((right & kept).astype(float), kept.astype(float), by) if kept.any() else None
        return cls(refused, accuracy, of_others)

    def describe(self, asked: RefusalOptions) -> list[str]:
        """Sentences for a person with photographs; the last one is a warning where too many would be refused."""
        lines = []
        if self.refused is not None:
            lines.append(f"of 100 photographs of your classes about {_format_share(self.refused)} will be refused")
        lines.append(f"of 100 photographs of other things about {_format_share(self.accepted)} will be accepted")
        if self.accuracy is not None:
            lines.append(f"of 100 answers that are not refused about {_format_share(self.accuracy)} are right")
        if self.refused is not None and self.refused.mean > TOO_MANY:
            lines.append(
                f"WARNING: more than a third of your own photographs would be refused: take more photographs of each "
                f"class, {_advise(asked)}"
            )
        return lines


def print_price(price: RefusalPrice, asked: RefusalOptions) -> None:
    """Print the sentences, each on a line of its own."""
    for line in price.describe(asked):
        print(f"  {line}")


def _advise(asked: RefusalOptions) -> str:
    if asked.false_accept_rate is not None:
        return (
            f"or accept more of other things (false_accept_rate above {asked.false_accept_rate:g}), or say how many of "
            "your own may be refused (false_reject_rate)"
        )
    if asked.false_reject_rate is not None:
        return f"or ask for a false_reject_rate below {asked.false_reject_rate:g}"
    return "or say how many of your own may be refused (false_reject_rate)"


def _format_share(p: Proportion) -> str:
    return f"{100 * p.mean:.0f} (95% interval {100 * p.low:.0f} to {100 * p.high:.0f})"
