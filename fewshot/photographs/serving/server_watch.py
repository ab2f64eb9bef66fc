"""Notes what a server answers to a drift record."""

import logging
from dataclasses import replace

import numpy as np

from fewshot.errors import ConfigError, OutputError
from fewshot.photographs.drift.record import DriftRecord
from fewshot.photographs.serving.asking import Answers
from fewshot.photographs.serving.learning import Learned, learn
from fewshot.photographs.serving.predictor import Predictor

logger = logging.getLogger(__name__)


class ServerWatch:
    """Notes answers to a drift record; one that cannot be written is logged, and the answers go on.

    Args:
        path: of the record.
        predictor: the classifier that answers first.

    Raises:
        ConfigError: for a classifier without numbers of left-out photographs.
        OutputError: for a file that is no drift record, or cannot be written.
    """

    def __init__(self, path: str, predictor: Predictor) -> None:
        self.path = path
        self.n_lost = 0  # photographs that could not be noted
        self._learned, self._record = self._open(predictor)

    def note(self, predictor: Predictor, features: np.ndarray, answers: Answers) -> None:
        """Note `answers` about photographs with `features` (n, D)."""
        try:
            learned = predictor.ask_learned()
            if learned.support is not self._learned.support:  # a class came or went
                self._learned, self._record = self._open(predictor)
            known = answers.known
            if known is None and "known" in self._record.reference.steps:
                known = self._learned.score_known(predictor.method, features)
            refuses = learned.threshold is not None
            noted = self._record.reference.note(
                answers.probabilities, features, known, answers.accepted if refuses else None
            )
            self._record.append(noted)
        except OutputError as error:
            if not self.n_lost:
                logger.warning("answers are given, but not noted: %s", error)
            self.n_lost += len(features)

    def _open(self, predictor: Predictor) -> tuple[Learned, DriftRecord]:
        """Open the record; also what was learned, with the numbers of left-out photographs."""
        learned = predictor.ask_learned()
        if learned.drift is None and predictor.facts["fixed"]:
            raise ConfigError(
                f"{predictor.folder} was exported by an earlier version, without numbers of left-out photographs: "
                "export it again"
            )
        if learned.drift is None:
            logger.warning(
                "%s was exported by an earlier version: its left-out photographs are looked at now; export it again to "
                "store them", predictor.folder,
            )  # fmt: skip
            found = learn(predictor.method, learned.classes, learned.support).drift
            learned = replace(learned, drift=found)
        assert learned.drift is not None, "it was found"
        return learned, DriftRecord(self.path, learned.drift, predictor.classes, predictor.unknown)
