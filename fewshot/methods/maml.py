"""Model-Agnostic Meta-Learning."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from fewshot.methods.base import METHODS
from fewshot.methods.context import EpisodeContext, drop_full_mask, get_query_mask
from fewshot.methods.distances import mask_absent
from fewshot.methods.inner_loop.call_with_weights import call_with_weights
from fewshot.methods.inner_loop.descent import InnerLoopMethod, Reduction, Weights, WithGradients, descend, inner_loss
from fewshot.methods.inner_loop.episode_statistics import NORMS, norms_in_eval, refuse_other_statistics
from fewshot.methods.inner_loop.layer_errors import RAISED_BY_LAYERS, name_failing_layer
from fewshot.methods.inner_loop.second_derivatives import name_missing_derivative, use_differentiable_attention
from fewshot.methods.inner_loop.task_layers import linear
from fewshot.methods.inner_loop.task_networks import runs_tasks_together
from fewshot.methods.inner_loop.taskwise import TaskWise
from fewshot.methods.scores import negative_log_likelihood
from fewshot.sampling.episodes import PADDING, Episode

# Limits of a group of tasks on a CPU, measured: docs/speed.md, "MAML, second order".
PIXELS_AT_ONCE, TASKS_AT_ONCE = 1 << 18, 16


@METHODS.register("maml")
class MAML(InnerLoopMethod):
    """A network and a linear classifier, adapted to each support set by a few steps of gradient descent.

    The options of the inner loop are those of `InnerLoopMethod`; the others are:

    Args:
        backbone: the network that is adapted.
        learn_inner_lr: learn a rate for every adapted weight (Meta-SGD, Li et al. 2017, https://arxiv.org/abs/1707.09835).
        adapt_norm: also adapt scale and shift of batch normalisation, unlike the authors' code.
        transductive: normalise queries by the statistics of the queries, as in the paper, instead of the support.
        tasks_at_once: number of tasks that are adapted together (default: all on a GPU; on a CPU the fewer the larger
            their images are). The gradient of each group is computed before the next group starts.

    Finn, Abbeel, Levine, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, ICML 2017,
    https://arxiv.org/abs/1703.03400, algorithm 2.

    Batch normalisation always uses the statistics of each episode; running statistics are neither used nor changed. The
    classifier's initial weights are learned per class, so logits depend on the order of the classes. Several tasks run
    together, each with its own weights (`TaskWise`); networks that do not allow this are adapted one task at a time.
    Raises `ConfigError` for a layer with running statistics that is not batch normalisation, and for a layer that
    cannot be adapted or, with `order=2`, has no second derivative. Under autocast convolutions compute in bfloat16 and
    the classifier in float32. A frozen backbone is not adapted; the method is then `ANIL` with `support_statistics`.

    Differs from the paper: `transductive` is off by default, and the classifier starts as PyTorch's linear layers do
    (the authors draw from N(0, 1) on Omniglot). What batch normalisation adds to the variance is the backbone's,
    PyTorch's 1e-5, where theirs (tf.contrib.layers) is 1e-3: the Conv-4 backbones' `norm_eps`.
    """

    label = "MAML"
    published, colour = True, "#C2409A"
    needs_network = True

    def __init__(
        self,
        backbone: nn.Module | None,
        n_way: int = 5,
        order: Literal[1, 2] = 2,
        inner_steps: int = 1,
        test_inner_steps: int | None = None,
        inner_lr: float = 0.4,
        inner_reduction: Reduction = "sum/K",
        learn_inner_lr: bool = False,
        adapt_norm: bool = False,
        transductive: bool = False,
        tasks_at_once: int | None = None,
    ) -> None:
        super().__init__(
            backbone, "maml", n_way, order, inner_steps, test_inner_steps, inner_lr, inner_reduction, transductive
        )
        self.tasks_at_once = tasks_at_once
        self.classifier = nn.Linear(backbone.feature_dim, n_way)
        self.adapted = _find_adapted_names(self, adapt_norm)
        refuse_other_statistics(backbone, "maml")
        self.together = runs_tasks_together(backbone)
        rates = [torch.full_like(self.get_parameter(name), inner_lr) for name in self.adapted] if learn_inner_lr else []
        self.inner_rates = nn.ParameterList(rates)

    def forward(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        n_way: int,
        *,
        context: EpisodeContext | None = None,
    ) -> Tensor:
        """Compute logits (B, n_query, n_way) from images (B, n, C, H, W)."""
        mask = get_query_mask(context) if self.transductive else None
        size = self._choose_group_size(support, query)
        fields = [support_labels, support, query] + ([] if mask is None else [mask])
        parts = zip(*(field.split(size) for field in fields), strict=True)
        return torch.cat([self._compute_group_logits(_Tasks(self, labels, n_way), *rest) for labels, *rest in parts])

    def loss_and_logits(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Compute the mean loss of the queries after adaptation, and their logits (B, n_query, n_way)."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        if not (torch.is_grad_enabled() and parameters):
            return super().loss_and_logits(episode)
        size = self._choose_group_size(episode.support, episode.query)
        fields = (episode.support, episode.support_labels, episode.query, episode.query_labels, episode.query_mask)
        ragged = self.transductive and not episode.unpadded
        gradients, losses, all_logits = [torch.zeros_like(p) for p in parameters], [], []
        for support, labels, query, query_labels, mask in zip(*(field.split(size) for field in fields), strict=True):
            tasks = _Tasks(self, labels, episode.n_way, episode.unpadded)
            logits = self._compute_group_logits(tasks, support, query, drop_full_mask(mask) if ragged else None)
            loss = negative_log_likelihood(logits, query_labels).sum() / len(episode)
            with self._name_missing_derivative(support):
                of_group = torch.autograd.grad(loss, parameters, materialize_grads=True)
            for gradient, more in zip(gradients, of_group, strict=True):
                gradient += more
            losses.append(loss.detach())
            all_logits.append(logits.detach())
        return WithGradients.apply(torch.stack(losses).sum(), gradients, *parameters), torch.cat(all_logits)

    def adapt_weights(self, support: Tensor, support_labels: Tensor, n_way: int, steps: int) -> Weights:
        """Adapt the weights to T tasks by `steps` steps on their support (T, n, C, H, W); returns weights (T, ...)."""
        tasks = _Tasks(self, support_labels, n_way)
        with tasks.running():
            return tasks.adapt(self._prepare_images(support), steps)

    def _compute_group_logits(
        self, tasks: "_Tasks", support: Tensor, query: Tensor, query_mask: Tensor | None = None
    ) -> Tensor:
        """Compute logits (T, n_query, n_way) of T tasks that are adapted together; `query_mask` (T, n_query)."""
        support, query = self._prepare_images(support), self._prepare_images(query)
        with tasks.running():
            weights = tasks.adapt(support, self.steps)
            logits = tasks.query_logits(weights, support, query, query_mask)
        return mask_absent(logits, tasks.present)[..., : tasks.n_way]

    def _choose_group_size(self, support: Tensor, query: Tensor) -> int:
        """Choose how many tasks with images (B, n, C, H, W) are adapted together."""
        if not self.together:
            return 1
        if self.tasks_at_once is not None:
            return self.tasks_at_once
        if support.device.type != "cpu":
            return 1 << 30
        pixels = (support.shape[1] + query.shape[1]) * self.backbone.input_px**2
        return min(TASKS_AT_ONCE, max(1, PIXELS_AT_ONCE // pixels))

    def _name_missing_derivative(self, support: Tensor) -> AbstractContextManager[None]:
        return name_missing_derivative(self.backbone, lambda: self._prepare_images(support[:1])[0], "maml")

    def _prepare_images(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:
            return images
        return self.backbone.prepare(images.flatten(0, 1)).unflatten(0, images.shape[:2])


class _Tasks:
    """Runs the network of a `MAML` on T tasks that are adapted together.

    A mask selects the images from which batch statistics are computed; None: all images.
    """

    def __init__(self, method: MAML, labels: Tensor, n_way: int, unpadded: bool = False) -> None:
        device = labels.device.type
        self.method, self.labels, self.n_way, self.learning = method, labels, n_way, torch.is_grad_enabled()
        self.present = method.find_present_classes(labels, n_way)  # (T, method.n_way)
        self.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        self.counted = None if unpadded else drop_full_mask(labels != PADDING)  # (T, n_support); None: all
        self.twice = self.learning and method.order == 2

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within the block gradients are on, which the inner loop needs, and autocast is off.

        Batch normalisation is in evaluation mode, since `TaskWise` provides the statistics.
        """
        device = self.labels.device.type
        attention = use_differentiable_attention() if self.twice else nullcontext()
        with torch.enable_grad(), torch.autocast(device, enabled=False), norms_in_eval(self.method), attention:
            yield

    def adapt(self, support: Tensor, steps: int) -> Weights:
        """Adapt the weights of each task by `steps` steps on its support (T, n_support, C, H, W), prepared images."""
        method, rates = self.method, self.method.inner_lr
        initial = {name: method.get_parameter(name) for name in method.adapted}
        initial = {name: weight for name, weight in initial.items() if weight.requires_grad}  # without frozen ones
        if method.inner_rates:
            rates = [rate for name, rate in zip(method.adapted, method.inner_rates, strict=True) if name in initial]
        weights = {name: weight.expand(len(support), *weight.shape) for name, weight in initial.items()}

        def loss(weights: Weights) -> Tensor:
            logits = self._logits(weights, support, self.counted)
            return inner_loss(logits, self.labels, self.present, method.inner_reduction)

        with method._name_missing_derivative(support):  # from the second step on
            return descend(loss, weights, rates, steps, method.order, self.learning)

    def query_logits(self, weights: Weights, support: Tensor, query: Tensor, mask: Tensor | None) -> Tensor:
        """Compute logits (T, n_query, method.n_way) of prepared queries (T, n_query, C, H, W); `mask` (T, n_query)."""
        if self.method.transductive:
            logits = self._logits(weights, query, mask)
        else:
            counted = support.shape[1]
            if self.counted is not None:
                counted = torch.cat([self.counted, self.counted.new_zeros(query.shape[:2])], 1)
            logits = self._logits(weights, torch.cat([support, query], 1), counted)[:, support.shape[1] :]
        return logits if self.learning else logits.detach()

    def _logits(self, weights: Weights, images: Tensor, counted: Tensor | int | None) -> Tensor:
        """Compute logits (T, n, method.n_way) of images (T, n, C, H, W); `counted` ones decide batch statistics."""
        method, n_tasks = self.method, len(images)
        body = {name.removeprefix("backbone."): w for name, w in weights.items() if name.startswith("backbone.")}
        if not method.together:
            body = {name: weight.squeeze(0) for name, weight in body.items()}
        if not self.learning:  # make the other weights constants, so that no graph is built
            body = {name: p.detach() for name, p in method.backbone.named_parameters()} | body
        with self._engine(n_tasks, images.shape[1], counted):
            features = call_with_weights(method.backbone, body, images.flatten(0, 1))  # (T * n, D)
        classifier = {
            name: weights.get(f"classifier.{name}", p.expand(n_tasks, *p.shape))  # frozen: the same for all tasks
            for name, p in method.classifier.named_parameters()
        }
        return linear(features, **classifier).unflatten(0, (n_tasks, -1))

    @contextmanager
    def _engine(self, n_tasks: int, n_images: int, counted: Tensor | int | None) -> Iterator[None]:
        """Within the block the backbone runs on `n_images` images of each of `n_tasks` tasks.

        If tasks run one at a time, autocast chooses the precision; otherwise `TaskWise` does.
        """
        backbone, together = self.method.backbone, self.method.together
        engine = TaskWise(n_tasks, n_images, counted, self.dtype if together else None, self.twice)
        half = torch.autocast(self.labels.device.type, self.dtype, enabled=self.dtype is not None and not together)
        failing = name_failing_layer(backbone, RAISED_BY_LAYERS, "be adapted by maml")
        with failing, engine, half, engine.pool_first(backbone):
            yield


def _find_adapted_names(method: nn.Module, adapt_norm: bool) -> list[str]:
    """List the names of the parameters that the inner loop changes."""
    norms = {id(p) for module in method.modules() if isinstance(module, NORMS) for p in module.parameters()}
    return [name for name, p in method.named_parameters() if adapt_norm or id(p) not in norms]
