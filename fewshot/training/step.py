"""One optimizer step: the loss of each pass, gradients, and the arithmetic that they are computed in."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fewshot.config import TrainingOptions
from fewshot.errors import TrainingError
from fewshot.methods import Method
from fewshot.runtime.precision import autocast
from fewshot.sampling.batches import Batch
from fewshot.sampling.episodes import Episode
from fewshot.training.learner import Learner

if TYPE_CHECKING:
    from accelerate import Accelerator

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # without it cuBLAS refuses to be deterministic


class _Loss(nn.Module):
    """The loss as a forward pass, which is what data parallelism wraps."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:  # an Episode, or a Batch where a classifier is trained
        return self.method.training_step(batch)


class TrainingStep:
    """Takes optimizer steps of a `Learner`, on this process's share of each step's batches.

    With `config.compile` the loss is compiled by `torch.compile`: the kernels of a GPU are recorded as a CUDA graph
    (mode "reduce-overhead"), compiled anew for each shape of an episode.
    """

    def __init__(self, learner: Learner, config: TrainingOptions, accelerator: "Accelerator") -> None:
        self.learner, self.config, self.accelerator = learner, config, accelerator
        self.loss: nn.Module = _Loss(learner.method)
        if config.max_steps:
            self.loss = accelerator.prepare_model(self.loss)
        if config.compile:
            self.loss.compile(mode="reduce-overhead" if accelerator.device.type == "cuda" else None)

    def take(self, batches: Iterable[Episode | Batch]) -> tuple[Tensor, Tensor, Tensor]:
        """Train on the `accumulate_steps` batches of one step.

        Returns:
            Loss and accuracy of this process's share, and the gradient's norm: scalars on the device.

        Raises:
            TrainingError: memory is exhausted; the weights are those of the step before.
        """
        with explain_lack_of_memory(self.config):
            return self._take(batches)

    def _take(self, batches: Iterable[Episode | Batch]) -> tuple[Tensor, Tensor, Tensor]:
        n_passes, losses, accuracies = self.config.accumulate_steps, [], []
        self.loss.train()
        for number, batch in enumerate(batches, start=1):
            last = number == n_passes
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.loss):
                with autocast(self.config.precision, self.accelerator.device):
                    loss, accuracy = self.loss(batch)
                self.learner.backward(loss / n_passes)
            losses.append(loss.detach())
            accuracies.append(accuracy)
        return torch.stack(losses).mean(), torch.stack(accuracies).mean(), self.learner.update()


@contextlib.contextmanager
def explain_lack_of_memory(config: TrainingOptions) -> Iterator[None]:
    """Within the block a GPU without enough memory raises a `TrainingError` that names what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).split(". ")[0]
        raise TrainingError(
            f"the GPU's memory does not suffice for a training step ({first}). Raise accumulate_steps (now "
            f"{config.accumulate_steps}), lower the episode's classes, shots or queries, or the batch_size, or "
            "method_options.tasks_at_once of maml. What was saved is whole: the same run goes on with --resume"
        ) from error


@contextlib.contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Within the block torch only uses algorithms that give the same numbers at each run, where `enabled`.

    An operation that has none raises. cuBLAS reads its variable when it is first used: a program that computed on a
    GPU before this block began must have set CUBLAS_WORKSPACE_CONFIG itself.
    """
    if not enabled:
        yield
        return
    os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
