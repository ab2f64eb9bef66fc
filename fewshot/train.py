"""`fit`: the one training loop, in steps."""

import contextlib
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm import tqdm

from fewshot import parallel, seeding
from fewshot.backbones.sync_batchnorm import synchronise_batchnorm
from fewshot.checkpoint import load_checkpoint, save_checkpoint
from fewshot.config import TrainConfig, as_dict
from fewshot.datasets import ImageSet
from fewshot.episodes import Episode
from fewshot.errors import TrainingError
from fewshot.interruption import Interruption
from fewshot.memory_format import channels_last
from fewshot.methods import Method, accuracy
from fewshot.optimization import make_average, make_optimizer, make_schedule
from fewshot.precision import autocast, resolve
from fewshot.provenance import provenance
from fewshot.records import Records
from fewshot.run_folder import RunFolder, run_folder
from fewshot.stream import EpisodeStream
from fewshot.tracking import Tracker
from fewshot.validation import Validation, refuse_leaks

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class FitResult:
    """How training ended; the method then holds the weights of `best_step`.

    `validation`: the records that chose them; None without a validation set, where they are the last
    step's. `seconds`: of training and validation, over all attempts of a resumed run.
    """

    steps: int
    best_step: int
    validation: Records | None
    seconds: float


def fit(method: Method, train_set: ImageSet, val_set: ImageSet | None, config: TrainConfig) -> FitResult:
    """Train `method` in place on episodes of `train_set`, keeping the best weights on `val_set`.

    Runs on the accelerator if there is one, and on several processes where launched so (`torchrun`).
    With `config.run_dir` everything is written there, and `config.resume` goes on bit for bit.
    Raises `LeakageError` for a test split, `TrainingError` for a loss that is not finite.
    """
    refuse_leaks(train_set, val_set)
    from accelerate import Accelerator  # slow to import

    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    stream = EpisodeStream(train_set, config, accelerator.device)
    validation = None if val_set is None else Validation(val_set, config)
    method.to(accelerator.device)
    folder_of_run = run_folder(config.run_dir, as_dict(config), config.resume)
    # torch's channels-last batch norm on a CPU sums in float32 one by one: off by 2e-3 where contiguous is by 5e-7.
    # bfloat16 rounds more coarsely than that; float32 runs keep the accurate layout.
    accurate = accelerator.device.type == "cpu" and resolve(config.precision, accelerator.device) == "float32"
    layout = contextlib.nullcontext() if accurate else channels_last(method)
    with folder_of_run as folder, seeding.forked(config.seed), layout:
        return _Training(method, stream, validation, config, accelerator, folder).run()


class _Step(nn.Module):
    """The loss as a forward pass, which is what data parallelism wraps."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, episode: Episode) -> tuple[Tensor, Tensor]:
        return self.method.loss_and_logits(episode)


class _Training:
    """The state of one call of `fit`."""

    def __init__(
        self,
        method: Method,
        stream: EpisodeStream,
        validation: Validation | None,
        config: TrainConfig,
        accelerator: "Accelerator",
        folder: RunFolder,
    ) -> None:
        self.config, self.accelerator, self.folder, self.device = config, accelerator, folder, accelerator.device
        self.stream, self.validation = stream, validation
        self.method = method
        if parallel.world_size() > 1:
            synchronise_batchnorm(self.method)
        self.average = make_average(self.method, config)
        self.step_module = accelerator.prepare_model(_Step(self.method))
        self.optimizer = make_optimizer(self.method, config)
        self.schedule = make_schedule(self.optimizer, config)
        self.step, self.best_step, self.best_accuracy, self.seconds = 0, 0, -1.0, 0.0
        self.first_bad_step = torch.tensor(math.inf, device=self.device)
        if config.resume and folder.last.exists():
            self._restore()

    def run(self) -> FitResult:
        config, started = self.config, time.perf_counter() - self.seconds
        tracker = Tracker(self.folder.path / "tensorboard", self.step, parallel.is_first() and bool(config.run_dir))
        tracker.config(as_dict(config), self._facts())
        bar = tqdm(
            total=config.max_steps, initial=self.step, desc="training", unit="step",
            disable=not parallel.is_first(), mininterval=0.2 if sys.stderr.isatty() else 30, miniters=1,
        )  # fmt: skip
        with contextlib.closing(tracker), bar, Interruption() as interruption:
            while self.step < config.max_steps and not self._out_of_patience():
                loss, train_accuracy, gradient_norm = self._optimise()
                self.step += 1
                self.seconds = time.perf_counter() - started
                bar.update()
                if self._due(config.log_every_steps) or self.step == 1:
                    self._log(tracker, bar, loss, train_accuracy, gradient_norm)
                alone = parallel.world_size() == 1  # asking the others costs a message: not at every step
                stopped = (alone or self._due(config.log_every_steps)) and interruption.requested()
                if self._due(config.val_every_steps) and self.validation and not stopped:
                    self._validate(tracker, bar)
                if self._due(config.checkpoint_every_steps) or stopped:
                    self._save(self.folder.last)
                if stopped:
                    interruption.leave(f"stopped at step {self.step}; the run goes on from there with --resume")
        return self._finish()

    def _facts(self) -> dict[str, object]:
        sets = {"train": self.stream.sampler.imageset}
        sets |= {"val": self.validation.val_set} if self.validation else {}
        return {
            **{name: repr(imageset) for name, imageset in sets.items()},
            **{f"{name}_fingerprint": imageset.fingerprint for name, imageset in sets.items()},
            "device": str(self.device),
            "precision": resolve(self.config.precision, self.device),
            "processes": parallel.world_size(),
            **provenance(),
        }

    def _due(self, every_steps: int) -> bool:
        return self.step % every_steps == 0 or self.step == self.config.max_steps

    def _out_of_patience(self) -> bool:
        waited = (self.step - self.best_step) // self.config.val_every_steps
        return bool(self.config.patience and self.validation) and waited >= self.config.patience

    def _optimise(self) -> tuple[Tensor, Tensor, Tensor]:
        """One optimizer step; loss and accuracy of this process's episodes, and the gradient's norm."""
        config = self.config
        seeding.reseed(config.seed, "step", self.step, parallel.rank())  # dropout
        self.step_module.train()
        losses, accuracies = [], []
        for number, episode in enumerate(self.stream.passes(self.step), start=1):
            last = number == config.accumulate_steps
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.step_module):
                with autocast(config.precision, self.device):
                    loss, logits = self.step_module(episode)
                (loss / config.accumulate_steps).backward()
            losses.append(loss.detach())
            accuracies.append(accuracy(logits.detach(), episode.query_labels).mean())
        norm = nn.utils.clip_grad_norm_(self.method.parameters(), config.max_gradient_norm or math.inf)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.method)
        loss = torch.stack(losses).mean()
        bad = ~loss.isfinite() & self.first_bad_step.isinf()
        self.first_bad_step = torch.where(bad, float(self.step + 1), self.first_bad_step)
        return loss, torch.stack(accuracies).mean(), norm

    def _log(self, tracker: Tracker, bar: tqdm, loss: Tensor, train_accuracy: Tensor, norm: Tensor) -> None:
        self._check_finite()
        everyone = parallel.gathered((float(loss), float(train_accuracy)))
        loss_mean, accuracy_mean = (sum(values) / len(everyone) for values in zip(*everyone, strict=True))
        best = f"{100 * self.best_accuracy:.2f}%" if self.best_step else "–"
        bar.set_postfix(loss=f"{loss_mean:.3f}", train=f"{100 * accuracy_mean:.1f}%", best_val=best, refresh=False)
        tracker.scalars(
            self.step,
            train_loss=loss_mean,
            train_accuracy=accuracy_mean,
            train_gradient_norm=float(norm),
            train_learning_rate=self.schedule.get_last_lr()[0],
            train_episodes_per_second=self.step * self.config.episodes_per_step / self.seconds,
        )

    def _check_finite(self) -> None:
        bad = min(parallel.gathered(float(self.first_bad_step)))
        if math.isfinite(bad):
            kept = f"; the checkpoint {self.folder.last} is from before it" if self.folder.last.exists() else ""
            raise TrainingError(
                f"the loss of step {int(bad)} is not finite (lr={self.config.lr}, optimizer={self.config.optimizer}, "
                f"precision={self.config.precision}){kept}. A smaller lr or max_gradient_norm often helps"
            )

    @property
    def _measured(self) -> Method:
        """The weights that are validated and kept: the average where there is one."""
        return self.method if self.average is None else self.average.module

    def _validate(self, tracker: Tracker, bar: tqdm) -> None:
        self._check_finite()
        records = self.validation.records(self._measured)
        tracker.validation(self.step, records)
        mean, half = records.estimate
        bar.write(f"step {self.step}: validation {100 * mean:.2f} ± {100 * half:.2f}%", file=sys.stderr)
        if mean > self.best_accuracy:
            self.best_step, self.best_accuracy = self.step, mean
            self._save(self.folder.best)
            if tracker.writer:
                tracker.gallery(self.step, *self.validation.gallery(self._measured, self.device))

    def _save(self, path: Path) -> None:
        self._check_finite()
        if parallel.is_first():
            average = self.average
            state = {
                "method": self._measured.state_dict(),
                "training": None if average is None else self.method.state_dict(),
                "n_averaged": None if average is None else int(average.n_averaged),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "progress": [self.step, self.best_step, self.best_accuracy, self.seconds],
                "image_shape": self.stream.sampler.imageset.image_shape,
                "config": as_dict(self.config),
            }
            save_checkpoint(path, state)
        parallel.barrier()

    def _restore(self) -> None:
        state = load_checkpoint(self.folder.last)
        self._measured.load_state_dict(state["method"])
        if self.average is not None:
            self.method.load_state_dict(state["training"])
            self.average.n_averaged.fill_(state["n_averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.best_step, self.best_accuracy, self.seconds = state["progress"]

    def _finish(self) -> FitResult:
        """Give the method its best weights and measure them once more on validation."""
        self._check_finite()
        if self.validation is None:
            self.method.load_state_dict(self._measured.state_dict())
            return FitResult(self.step, self.step, None, self.seconds)
        self.method.load_state_dict(load_checkpoint(self.folder.best)["method"])
        return FitResult(self.step, self.best_step, self.validation.records(self.method), self.seconds)
