"""`train`: the training loop of episodic training and of the classifiers of stage 1."""

import contextlib
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from fewshot.backbones.surgery.sync_batchnorm import synchronise_batchnorm
from fewshot.config import TrainingOptions, as_dict
from fewshot.datasets import ImageSet
from fewshot.errors import TrainingError
from fewshot.evaluation.embed import embed_frozen
from fewshot.methods import Method
from fewshot.runtime import processes, seeding
from fewshot.runtime.checkpoint import load_checkpoint, refusing_foreign, save_checkpoint
from fewshot.runtime.layout import choose_layout
from fewshot.runtime.precision import resolve, switch_tf32
from fewshot.runtime.provenance import collect_provenance
from fewshot.runtime.signals import Interruption
from fewshot.sampling.streams import Stream, draws_plain_episodes, make_stream
from fewshot.training.leakage import write_training_sets
from fewshot.training.learner import Learner
from fewshot.training.result import TrainingResult
from fewshot.training.run_folder import RunFolder, run_folder
from fewshot.training.step import TrainingStep, deterministic_algorithms
from fewshot.training.tracking import Tracker
from fewshot.training.tracking.events import naming_events
from fewshot.training.validation import Validation, refuse_leaks

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(method: Method, train_set: ImageSet, val_set: ImageSet | None, config: TrainingOptions) -> TrainingResult:
    """Train `method` in place on `train_set`, keeping the best weights on `val_set`.

    A `TrainConfig` trains on episodes, a `PretrainConfig` on plain batches of labelled images; with
    `max_steps=0` nothing is trained, and the method is validated and kept as it is.
    A frozen backbone is not updated; if training images are not augmented, its features are computed once.
    Runs on the accelerator if there is one, and on several processes where launched so (`torchrun`).

    Args:
        method: what is trained, in place; it ends with its best weights.
        train_set: images of the training classes.
        val_set: images of other classes, which choose the weights; None: the last step's weights are kept.
        config: a `TrainConfig` or a `PretrainConfig`. With `run_dir` everything is written there, and `resume` goes on
            bit for bit.

    Returns:
        How training ended, with the validation records of the weights that were kept.

    Raises:
        LeakageError: for a test split, and where validation classes or images are among those of training, unless
            `config.allow_seen_classes` is set.
        TrainingError: for a loss that is not finite.
    """
    refuse_leaks(train_set, val_set, config.allow_seen_classes)
    from accelerate import Accelerator  # slow to import

    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    processes.leave_at_exit()
    method.to(accelerator.device)
    data = embed_frozen(method, train_set, config.precision) if draws_plain_episodes(config) else train_set
    stream = make_stream(data, config, accelerator.device) if config.max_steps else None
    validation = None if val_set is None else Validation(val_set, config)
    folder_of_run = run_folder(config.run_dir, config, config.resume)
    layout = choose_layout(method, config.precision, accelerator.device)
    arithmetic = switch_tf32(config.precision, accelerator.device), deterministic_algorithms(config.deterministic)
    with folder_of_run as folder, seeding.fork(config.seed), layout, arithmetic[0], arithmetic[1]:
        if config.run_dir and processes.is_first():
            write_training_sets(folder, method, train_set, config)
        return _Training(method, train_set, stream, validation, config, accelerator, folder).run()


class _Training:
    """The state of one call of `train`."""

    def __init__(
        self,
        method: Method,
        train_set: ImageSet,
        stream: Stream | None,
        validation: Validation | None,
        config: TrainingOptions,
        accelerator: "Accelerator",
        folder: RunFolder,
    ) -> None:
        self.config, self.accelerator, self.folder, self.device = config, accelerator, folder, accelerator.device
        self.train_set, self.stream, self.validation = train_set, stream, validation
        if processes.world_size() > 1:
            synchronise_batchnorm(method)
        self.learner = Learner(method, config)
        self.step = TrainingStep(self.learner, config, accelerator)
        self.first_bad_step = torch.tensor(math.inf, device=self.device)
        self.since_point: list[tuple[Tensor, Tensor]] = []  # loss and accuracy of each step since the last point
        if config.resume and folder.last.exists():
            state = load_checkpoint(folder.last)
            with refusing_foreign(folder.last, "run"):
                self.learner.restore(state)

    def run(self) -> TrainingResult:
        events = naming_events(self.folder.tensorboard)
        with events, contextlib.closing(Tracker(self.folder, self.config, self.learner.step)) as tracker:
            tracker.write_options(self._collect_facts())
            self._train(tracker)
            return self._finish(tracker)

    def _train(self, tracker: Tracker) -> None:
        config, learner, started = self.config, self.learner, time.perf_counter() - self.learner.seconds
        bar = tqdm(
            total=config.max_steps, initial=learner.step, desc="training", unit="step",
            disable=not processes.is_first(), mininterval=0.2 if sys.stderr.isatty() else 30, miniters=1,
        )  # fmt: skip
        with bar, Interruption() as interruption:
            if config.max_steps == 0:
                self._keep_as_it_is(tracker, bar)
            elif self._was_stopped_before_validation():
                self._validate(tracker, bar)
                self._save(self.folder.last)
            while learner.step < config.max_steps and not self._stops_early():
                with tracker.profile(learner.step + 1):
                    gradient_norm = self._optimise()
                learner.step += 1
                learner.seconds = time.perf_counter() - started
                bar.update()
                if self._is_due(config.log_every_steps) or learner.step == 1:
                    self._log(tracker, bar, gradient_norm)
                alone = processes.world_size() == 1  # asking other processes costs a message: not at every step
                stopped = (alone or self._is_due(config.log_every_steps)) and interruption.was_requested()
                if self._is_due(config.val_every_steps) and self.validation and not stopped:
                    self._validate(tracker, bar)
                if self._is_due(config.checkpoint_every_steps) or stopped:
                    self._save(self.folder.last)
                if stopped:
                    interruption.leave(f"stopped at step {learner.step}; continue the run with --resume")

    def _collect_facts(self) -> dict[str, object]:
        sets = {"train": self.train_set}
        sets |= {"val": self.validation.val_set} if self.validation else {}
        return {
            **{name: repr(imageset) for name, imageset in sets.items()},
            **{f"{name}_fingerprint": imageset.fingerprint for name, imageset in sets.items()},
            "device": str(self.device),
            "precision": resolve(self.config.precision, self.device),
            "processes": processes.world_size(),
            **collect_provenance(),
        }

    def _is_due(self, every_steps: int) -> bool:
        return self.learner.step % every_steps == 0 or self.learner.step == self.config.max_steps

    def _stops_early(self) -> bool:
        config, learner = self.config, self.learner
        waited = (learner.step - learner.best_step) // config.val_every_steps
        out_of_patience = config.patience > 0 and waited >= config.patience
        good_enough = config.stop_at_accuracy > 0 and learner.best_accuracy >= config.stop_at_accuracy
        return self.validation is not None and (out_of_patience or good_enough)

    def _was_stopped_before_validation(self) -> bool:
        """Whether a signal had stopped this run after a step but before the validation that was due at this step."""
        learner = self.learner
        due = self.validation is not None and learner.step > 0 and self._is_due(self.config.val_every_steps)
        return due and (not learner.history or learner.history[-1][0] != learner.step)

    def _optimise(self) -> Tensor:
        """Take one optimizer step and return the gradient's norm; loss and accuracy are kept until the next log."""
        step, seed = self.learner.step, self.config.seed
        seeding.reseed(seed, "step", step, processes.rank())  # dropout
        loss, train_accuracy, norm = self.step.take(self.stream.iterate_passes(step))
        bad = ~loss.isfinite() & self.first_bad_step.isinf()
        self.first_bad_step = torch.where(bad, float(step + 1), self.first_bad_step)
        self.since_point.append((loss, train_accuracy))
        return norm

    def _log(self, tracker: Tracker, bar: tqdm, norm: Tensor) -> None:
        self._check_finite()
        learner, stream = self.learner, self.stream
        loss, train_accuracy = (torch.stack(values).mean() for values in zip(*self.since_point, strict=True))
        self.since_point.clear()
        everyone = processes.gather((float(loss), float(train_accuracy)))
        loss_mean, accuracy_mean = (sum(values) / len(everyone) for values in zip(*everyone, strict=True))
        best = f"{100 * learner.best_accuracy:.2f}%" if learner.best_step else "–"
        bar.set_postfix(loss=f"{loss_mean:.3f}", train=f"{100 * accuracy_mean:.1f}%", best_val=best, refresh=False)
        values = {
            "train_loss": loss_mean,
            "train_accuracy": accuracy_mean,
            "train_gradient_norm": float(norm),
            "train_learning_rate": learner.schedule.get_last_lr()[0],
            f"train_{stream.unit}_per_second": learner.step * stream.per_step / learner.seconds,
        }
        tracker.write_scalars(learner.step, **values)

    def _check_finite(self) -> None:
        bad = min(processes.gather(float(self.first_bad_step)))
        if math.isfinite(bad):
            kept = f"; the checkpoint {self.folder.last} is from before it" if self.folder.last.exists() else ""
            raise TrainingError(
                f"the loss of step {int(bad)} is not finite (lr={self.config.lr}, optimizer={self.config.optimizer}, "
                f"precision={self.config.precision}){kept}. A smaller lr or max_gradient_norm often helps"
            )

    def _keep_as_it_is(self, tracker: Tracker, bar: tqdm) -> None:
        if self.validation:
            self._validate(tracker, bar)
        self._save(self.folder.last)

    def _validate(self, tracker: Tracker, bar: tqdm) -> None:
        self._check_finite()
        learner = self.learner
        records = self.validation.evaluate(learner.measured)
        tracker.write_validation(learner.step, records)
        mean, half = records.estimate
        learner.history.append([learner.step, learner.seconds, mean, half])
        if processes.is_first():
            bar.write(f"step {learner.step}: validation {100 * mean:.2f} ± {100 * half:.2f}%", file=sys.stderr)
        if mean > learner.best_accuracy:
            learner.best_step, learner.best_accuracy = learner.step, mean
            self._save(self.folder.best)
            self.validation.write_gallery(learner.measured, tracker, learner.step)

    def _save(self, path: Path) -> None:
        self._check_finite()
        if processes.is_first():
            about = {
                "image_shape": self.train_set.image_shape,
                "n_classes": self.train_set.n_classes,
                "config": as_dict(self.config),
            }
            save_checkpoint(path, self.learner.state() | about)
        processes.barrier()

    def _finish(self, tracker: Tracker) -> TrainingResult:
        """Load the best weights into the method and validate them once more."""
        self._check_finite()
        learner, validation = self.learner, self.validation
        if validation is None:
            learner.method.load_state_dict(learner.measured.state_dict())
            tracker.write_result(learner.step, None, learner.seconds)
            return TrainingResult(learner.step, learner.step, None, learner.seconds)
        learner.method.load_state_dict(load_checkpoint(self.folder.best)["method"])
        records = validation.report(learner.method, tracker, learner.best_step)
        tracker.write_result(learner.best_step, records.mean, learner.seconds)
        return TrainingResult(learner.step, learner.best_step, records, learner.seconds)
