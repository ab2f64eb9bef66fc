"""One optimizer step: loss and gradients of each batch, in the configured arithmetic."""

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

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS is deterministic only if this variable is set


class _Loss(nn.Module):
    """Computes the loss in its forward pass, since `DistributedDataParallel` wraps only `forward`."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:  # an Episode, or a Batch for a classifier of base classes
        return self.method.training_step(batch)


class TrainingStep:
    """Takes optimizer steps of a `Learner` on this process's share of the batches.

    With `config.compile` the loss is compiled by `torch.compile`, on a GPU with CUDA graphs (mode "reduce-overhead");
    each new shape of an episode is compiled again.
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
    """Turn an out-of-memory error of the GPU within the block into a `TrainingError` that names what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).split(". ")[0]
        raise TrainingError(
            f"the GPU's memory does not suffice for a training step ({first}). Raise accumulate_steps (now "
            f"{config.accumulate_steps}), lower the episode's classes, shots or queries, or the batch_size, or "
            "method_options.tasks_at_once of maml. The last checkpoint is intact: continue the run with --resume"
        ) from error


@contextlib.contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """If `enabled`, let PyTorch use only deterministic algorithms within the block; operations without one raise.

    cuBLAS reads its environment variable when it is first used, so a program that used the GPU before this block must
    have set CUBLAS_WORKSPACE_CONFIG itself.
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
