"""`Learner`: a method with its optimizer, schedule and everything else that changes during training."""

import math
import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn

from fewshot.config import TrainingOptions
from fewshot.evaluation.embed import device_of
from fewshot.methods import Method
from fewshot.runtime.precision import resolve
from fewshot.training.optimization import make_average, make_optimizer, make_schedule


class Learner:
    """The method, the average of its weights, optimizer, schedule and progress, saved and restored together.

    With `max_steps=0` there is no optimizer and no schedule, and the method may have no parameters. `seconds`:
    duration of training and validation so far, including those before a resume. `history`: step, seconds, mean and
    half-width of the 95% interval of each validation so far. `restarts`: the steps after which the optimizer began
    anew, since the run went on from a copy without its state. With float16, the loss is scaled so that small gradients
    do not underflow; a step whose gradients overflow changes no weight and halves the scale.
    """

    def __init__(self, method: Method, config: TrainingOptions) -> None:
        self.method, self.max_gradient_norm = method, config.max_gradient_norm or math.inf
        self.average = make_average(method, config)
        self.restarts: list[int] = []
        self.optimizer = make_optimizer(method, config) if config.max_steps else None
        self.schedule = make_schedule(self.optimizer, config, self.restarts) if self.optimizer else None
        device = device_of(method)
        self.scaler = torch.amp.GradScaler(device.type, enabled=resolve(config.precision, device) == "float16")
        self.step, self.best_step, self.best_accuracy, self.seconds = 0, 0, -1.0, 0.0
        self.history: list[list[float]] = []

    @property
    def measured(self) -> Method:
        """The method with the weights that are validated and kept: their average, if one is configured."""
        return self.method if self.average is None else cast(Method, self.average.module)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to those of the parameters."""
        self.scaler.scale(loss).backward()

    def update(self) -> Tensor:
        """Take an optimizer step with the accumulated gradients.

        Returns:
            Their norm before clipping, a scalar; not finite if float16 gradients overflowed.
        """
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.method.parameters(), self.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with warnings.catch_warnings():
            # PyTorch warns if the optimizer's first step was skipped, because its gradients overflowed.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.method)
        return norm

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint holds."""
        average = self.average
        return {
            "method": self.measured.state_dict(),
            "training": None if average is None else self.method.state_dict(),
            "n_averaged": None if average is None else int(average.n_averaged),
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "scaler": self.scaler.state_dict(),
            "progress": [self.step, self.best_step, self.best_accuracy, self.seconds],
            "history": self.history,
            "restarts": self.restarts,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned; raises an error for one that training could not go on with."""
        progress, history = state["progress"], state.get("history", [])  # no history in checkpoints of early versions
        _check_like("progress", progress, [self.step, self.best_step, self.best_accuracy, self.seconds])
        _check_like("history", history, [[0, 0.0, 0.0, 0.0]] * len(history))
        _check_like("restarts", state.get("restarts", []), [0] * len(state.get("restarts", [])))
        if not 0 <= progress[1] <= progress[0]:
            raise ValueError(f"progress: the best step is {progress[1]}, the last one {progress[0]}")
        self.measured.load_state_dict(state["method"])
        if self.average is not None:
            self.method.load_state_dict(state["training"])
            self.average.n_averaged.fill_(state["n_averaged"])
        self.restarts[:] = state.get("restarts", [])  # in place: the schedule reads them
        if self.optimizer is not None:
            own = self.schedule.state_dict()
            _check_like("schedule", {name: value for name, value in state["schedule"].items() if name in own}, own)
            self.schedule.load_state_dict(state["schedule"])
            if state["optimizer"] is None and self.restarts[-1:] == [state["progress"][0]]:
                self._restart_optimizer()
            else:
                self._load_optimizer(state["optimizer"])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.best_step, self.best_accuracy, self.seconds = progress
        self.history = history

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """Load the optimizer's state, of which PyTorch itself checks only the number of parameters."""
        optimizer = self.optimizer
        groups = optimizer.param_groups
        settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        optimizer.load_state_dict(state)
        for group, own in zip(optimizer.param_groups, settings, strict=True):
            _check_like("optimizer", {name: group[name] for name in own}, own)
        if len({frozenset(values) for values in optimizer.state.values()}) > 1:
            raise ValueError("optimizer: its parameters have different kinds of state")
        for parameter, values in optimizer.state.items():
            for name, value in values.items():
                if not isinstance(value, Tensor) or value.shape not in (parameter.shape, torch.Size([])):
                    raise TypeError(f"optimizer: {name} is no tensor of the shape of its parameter")

    def _restart_optimizer(self) -> None:
        """Leave the optimizer as it is made, with the learning rate of the schedule's step."""
        schedule = self.schedule
        groups = zip(self.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
        for group, rate, factor in groups:
            group["lr"] = rate * factor(schedule.last_epoch)
        schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # what get_last_lr() returns


def _check_like(name: str, found: Any, own: Any) -> None:
    """Raise `TypeError` unless a value that was read has the form of the learner's own."""
    if isinstance(own, dict):
        for key, value in found.items():
            _check_like(f"{name}, {key}", value, own[key])
    elif isinstance(own, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(own):
            raise TypeError(f"{name} must be a list of {len(own)}, got {str(found)[:100]!r}")
        for value, expected in zip(found, own, strict=True):
            _check_like(name, value, expected)
    elif isinstance(own, bool) or own is None:
        if type(found) is not type(own):
            raise TypeError(f"{name} must be {'null' if own is None else 'true or false'}, got {str(found)[:100]!r}")
    elif type(found) not in ((int,) if isinstance(own, int) else (int, float)) or not math.isfinite(found):
        raise TypeError(f"{name} must be a {'whole ' * isinstance(own, int)}number, got {str(found)[:100]!r}")
