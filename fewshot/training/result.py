"""The result of a training run."""

from dataclasses import dataclass

from fewshot.evaluation.records import Records


@dataclass(frozen=True)
class TrainingResult:
    """How training ended; the method then holds the weights of `best_step`.

    `validation`: the records that chose them; None without a validation set, where they are the last
    step's. `seconds`: of training and validation, over all attempts of a resumed run.
    """

    steps: int
    best_step: int
    validation: Records | None
    seconds: float
