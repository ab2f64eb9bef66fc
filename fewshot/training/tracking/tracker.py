"""Writes what TensorBoard shows of a run during training."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from fewshot.config import TrainingOptions, as_dict
from fewshot.datasets import ImageSet
from fewshot.evaluation.records import Records
from fewshot.runtime import processes
from fewshot.sampling.episodes import Episode, EpisodeSampler
from fewshot.training.run_folder import RunFolder
from fewshot.training.tracking import charts, hyperparameters, pictures, tables
from fewshot.training.tracking.answers import Answers
from fewshot.training.tracking.profiling import format_operations, profile_step

N_PAIRS = 8  # of confused classes in the picture of hard pairs


class Tracker:
    """Writes scalars, pictures and texts of a run of `config` into its folder, in the first process only.

    `from_step`: the step from which the run is resumed; points that an interrupted attempt wrote after it are hidden.
    Without `config.run_dir` nothing is written.
    """

    def __init__(self, folder: RunFolder, config: TrainingOptions, from_step: int) -> None:
        self.writer, self.folder, self.config, self.from_step = None, folder, config, from_step
        if config.run_dir and processes.is_first():
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self.writer = SummaryWriter(str(folder.tensorboard), purge_step=from_step + 1 if from_step else None)
            hyperparameters.write_start(self.writer, config)
            band = ["Margin", ["val/accuracy", "val/accuracy_low", "val/accuracy_high"]]
            both = ["Multiline", ["train/accuracy", "val/accuracy$"]]
            self.writer.add_custom_scalars(
                {"accuracy": {"validation, 95% interval": band, "training and validation": both}}
            )

    def write_scalars(self, step: int, **values: float) -> None:
        """Write one point of each curve; the first underscore of a name separates its group: train_loss."""
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(name.replace("_", "/", 1), value, step)

    def write_validation(self, step: int, records: Records) -> None:
        """Write validation accuracy with its 95% interval over episodes, loss, and a histogram of the accuracies."""
        mean, half = records.estimate
        self.write_scalars(
            step, val_accuracy=mean, val_accuracy_low=mean - half, val_accuracy_high=mean + half, val_loss=records.loss
        )
        if self.writer:
            self.writer.add_histogram("val/accuracy_of_episodes", records.accuracy, step)

    def write_options(self, facts: dict[str, Any]) -> None:
        """Write the resolved configuration and the facts of this attempt into the text tab."""
        if self.writer:
            for tag, values in (("config", as_dict(self.config)), ("run", facts)):
                self.writer.add_text(tag, tables.format_option_table(values), self.from_step)

    def write_gallery(self, step: int, imageset: ImageSet, episode: Episode, logits: Tensor) -> None:
        """Write pictures of some validation episodes."""
        if self.writer:
            for b in range(len(episode)):
                picture = pictures.draw_episode(episode, logits, b, imageset.class_names)
                self.writer.add_image(f"val_episodes/{b}", picture, step, dataformats="HWC")

    def write_answers(
        self, step: int, records: Records, answers: Answers, imageset: ImageSet, sampler: EpisodeSampler
    ) -> None:
        """Write charts and pictures of the validation answers of the kept weights: by class, calibration, mistakes."""
        if not self.writer:
            return
        names = imageset.class_names
        shown = {
            "val_classes/accuracy": charts.draw_class_accuracy(answers, names),
            "val_classes/confusion": charts.draw_confusion(answers, names),
            "val_classes/hardest_pairs": pictures.draw_pairs(answers.hardest_pairs(N_PAIRS), answers, imageset),
            "val_answers/calibration": charts.draw_calibration(answers),
            "val_answers/most_wrong": pictures.draw_most_wrong(answers, imageset, sampler),
            "val_answers/accuracy_of_episodes": charts.draw_episode_accuracies(records),
        }
        for tag, picture in shown.items():
            self.writer.add_image(tag, picture, step, dataformats="HWC")
        self.writer.add_text("val_classes", tables.format_class_table(answers, names), step)
        self.write_scalars(step, val_calibration_error=answers.calibration_error)

    def write_result(self, step: int, best_accuracy: float | None, seconds: float) -> None:
        """Write the results by which the HParams tab compares runs, besides the test cells: `result/...`."""
        self.write_scalars(step, result_minutes=seconds / 60)
        if best_accuracy is not None:
            self.write_scalars(step, result_best_val_accuracy=best_accuracy)
        if self.writer:
            hyperparameters.write_end(self.writer)

    @contextlib.contextmanager
    def profile(self, step: int) -> Iterator[None]:
        """Profile the block, which takes optimizer step `step`, if `config.profile_step` names this step."""
        if step != self.config.profile_step or not self.writer:
            yield
            return
        path = self.folder.path / f"profile-step{step}.json"
        with profile_step(path) as profiler:
            yield
        self.writer.add_text("profile", f"{format_operations(profiler)}\n\ntrace: {path.name} in the run folder", step)

    def close(self) -> None:
        """Flush and close."""
        if self.writer:
            self.writer.close()
