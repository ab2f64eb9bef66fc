"""A classifier of a user's own images; it is imported when it is first used, since not all of this room needs torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewshot.estimator.estimator import FewShotClassifier

__all__ = ["FewShotClassifier"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fewshot.estimator.estimator import FewShotClassifier

    return FewShotClassifier
