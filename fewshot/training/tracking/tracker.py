"""Everything that TensorBoard shows of a run while it is trained."""

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

N_PAIRS = 8  # of classes that are taken for each other


class Tracker:
    """Writes scalars, pictures and texts of a run of `config` into its folder; only the first process does.

    `from_step`: the step that a resumed run goes on from; points that an interrupted attempt wrote
    after it are hidden. Without `config.run_dir` nothing is written.
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

    def scalars(self, step: int, **values: float) -> None:
        """One point on each curve; the first underscore of a name separates its group: train_loss."""
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(name.replace("_", "/", 1), value, step)

    def validation(self, step: int, records: Records) -> None:
        """Validation accuracy with its 95% interval over episodes, loss, and the accuracies of the episodes."""
        mean, half = records.estimate
        self.scalars(
            step, val_accuracy=mean, val_accuracy_low=mean - half, val_accuracy_high=mean + half, val_loss=records.loss
        )
        if self.writer:
            self.writer.add_histogram("val/accuracy_of_episodes", records.accuracy, step)

    def options(self, facts: dict[str, Any]) -> None:
        """The resolved configuration and the facts of this attempt, in the text tab."""
        if self.writer:
            for tag, values in (("config", as_dict(self.config)), ("run", facts)):
                self.writer.add_text(tag, tables.format_option_table(values), self.from_step)

    def gallery(self, step: int, imageset: ImageSet, episode: Episode, logits: Tensor) -> None:
        """Some validation episodes as pictures."""
        if self.writer:
            for b in range(len(episode)):
                picture = pictures.draw_episode(episode, logits, b, imageset.class_names)
                self.writer.add_image(f"val_episodes/{b}", picture, step, dataformats="HWC")

    def answers(
        self, step: int, records: Records, answers: Answers, imageset: ImageSet, sampler: EpisodeSampler
    ) -> None:
        """What the weights that are kept answered in validation: by class, by probability, and the worst of it."""
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
        self.scalars(step, val_calibration_error=answers.calibration_error)

    def result(self, step: int, best_accuracy: float | None, seconds: float) -> None:
        """What the HParams tab compares runs by, beside the test cells: `result/...`."""
        self.scalars(step, result_minutes=seconds / 60)
        if best_accuracy is not None:
            self.scalars(step, result_best_val_accuracy=best_accuracy)
        if self.writer:
            hyperparameters.write_end(self.writer)

    @contextlib.contextmanager
    def profile(self, step: int) -> Iterator[None]:
        """Within the block the optimizer step number `step` is taken, which is profiled where `config` asks for it."""
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
