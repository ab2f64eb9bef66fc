"""`finetune`: adapts some or all weights of a backbone to each support set."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fewshot.errors import CheckpointError, ConfigError, FewShotError
from fewshot.images.augment import make_augmentation
from fewshot.methods.base import METHODS, Method
from fewshot.methods.context import EpisodeContext
from fewshot.methods.finetune.descent import descend
from fewshot.methods.finetune.fitted import FittedClassifier
from fewshot.methods.finetune.network import Network, uncached_autocast
from fewshot.methods.finetune.options import (
    HEAD_RATES,
    RATES,
    Changes,
    Classifier,
    Descent,
    HeadStart,
    Mode,
    Optimizer,
    Schedule,
)
from fewshot.methods.finetune.stopping import find_best_step
from fewshot.methods.finetune.support import Support, hold_out, order_support
from fewshot.sampling.episodes import PADDING


@METHODS.register("finetune")
class FineTune(Method):
    """A copy of the backbone with a new head is adapted to each support set by gradient descent.

    Args:
        backbone: the network that is adapted.
        mode: what is adapted besides the head; see below.
        steps: number of gradient steps, with early_stopping the largest number.
        lr: learning rate of the network's weights (default: a starting point for a search, by mode).
        head_lr: learning rate of the head (default: by kind of head).
        weight_decay: weight decay of matrices; biases and other vectors do not decay.
        dropout: dropout rate of the head's inputs.
        augmentation: limits of `fewshot.images.augment.Augmentation`, which is applied in each step.
        layer_decay: factor by which lr decreases with each block towards the input.
        early_stopping: fraction of each class that is held out to find the number of steps.
        patience_steps: this search ends so many steps after the best one.
        test_views: number of augmented views of a query whose logits are averaged with its own.
        head_start: the initial head is made from the support's prototypes, or is zero.
        classifier: a linear or a cosine head (default: that of the mode, else linear).
        scale: factor of the cosines of a cosine head.
        n_blocks: number of blocks that mode partial adapts.
        lora_rank: rank of the changes of mode lora.
        lora_alpha: their factor, which is divided by the rank.
        adapter_width: width of the bottlenecks of mode adapter.
        n_prompts: number of tokens of mode prompt in vision transformers, else the width of its frame in pixels.
        deep_prompts: add new tokens in each block instead of only in the first.
        optimizer: AdamW, or SGD with momentum 0.9.
        schedule: schedule of the learning rates: a half cosine to 0, or constant.
        batch_images: number of images in one pass through the network.
        seed: seed of all random numbers, together with the support images.

    The modes, by what they adapt besides the head (their functions name the sources):
    "linear", "cosine": nothing; the head is linear, or a cosine head (Chen et al. 2019, Baseline++).
    "partial": the last `n_blocks` blocks and the layers after them.
    "batchnorm": scale and shift of the normalisation layers. "bias": all biases (BitFit). "full": all weights.
    "lora": a low-rank change of each convolution and linear layer, by peft. "adapter": a bottleneck after each block.
    "prompt": `n_prompts` additional tokens in timm's vision transformers, in other networks a frame of learned pixels
    around the image.

    In every mode batch normalisation uses the backbone's running statistics without changing them, and the network's
    own dropout is off. Without any step, a head that starts from prototypes is ProtoNet (linear) or imprinted weights
    (cosine). With SGD, weight decay adds that times half the squared weights to the loss.

    With `early_stopping`, about this fraction of each class is held out (whole groups if `fit_support` is given
    groups). The number of steps with the lowest loss on the held-out images is found, and then the whole support is
    used for so many steps. A class with one image or group has nothing to hold out; if no class has, there is no early
    stopping.

    Gradients of a loss reach the backbone's weights as if the adaptation had added a constant to them (first-order
    MAML). The adaptation itself always runs in evaluation mode, one episode after the other, with one copy of the
    backbone at a time.
    """

    label, family = "fine-tuning", "adapted"
    published, colour = True, "#3B3B3B"
    needs_network = reports_adapted = True

    def __init__(
        self,
        backbone: nn.Module | None,
        mode: Mode = "linear",
        steps: int = 50,
        lr: float | None = None,
        head_lr: float | None = None,
        weight_decay: float = 0.01,
        dropout: float = 0.0,
        augmentation: Mapping[str, float | bool] | None = None,
        layer_decay: float = 1.0,
        early_stopping: float = 0.0,
        patience_steps: int = 10,
        test_views: int = 0,
        head_start: HeadStart = "prototypes",
        classifier: Classifier | None = None,
        scale: float = 10.0,
        n_blocks: int = 1,
        lora_rank: int = 4,
        lora_alpha: float = 8.0,
        adapter_width: int = 16,
        n_prompts: int = 10,
        deep_prompts: bool = True,
        optimizer: Optimizer = "adamw",
        schedule: Schedule = "cosine",
        batch_images: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone)
        self.changes = Changes(
            mode,
            classifier,
            scale,
            head_start,
            n_blocks,
            lora_rank,
            lora_alpha,
            adapter_width,
            n_prompts,
            deep_prompts,
        )
        self.descent = Descent(
            steps,
            RATES.get(mode, 1e-4) if lr is None else lr,
            HEAD_RATES[self.changes.head] if head_lr is None else head_lr,
            weight_decay,
            dropout,
            layer_decay,
            optimizer,
            schedule,
            batch_images,
            early_stopping,
            patience_steps,
            make_augmentation(dict(augmentation or {})),
        )
        if not isinstance(test_views, int) or test_views < 0 or (test_views and not self.descent.augmentation.changes):
            raise ConfigError(
                f"finetune: test_views must be a whole number, and 0 without augmentation; "
                f"got {test_views!r} with augmentation {dict(augmentation or {})}"
            )
        self.test_views, self.seed = test_views, seed

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
        learning = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.backbone.parameters())
        logits = []
        for number, (images, labels, asked) in enumerate(zip(support, support_labels, query, strict=True)):
            real = labels != PADDING
            fitted = self.fit_support(images[real], labels[real], n_way)
            logits.append(fitted.first_order_logits(asked) if learning else fitted.logits(asked))
            if context is not None and context.adapted is not None:
                context.adapted(number, fitted.features)
            del fitted  # frees this episode's copy of the network before the next one is made
        return torch.stack(logits)

    def fit_support(
        self, images: Tensor, labels: Tensor, n_way: int, groups: Sequence[object] | None = None
    ) -> FittedClassifier:
        """Adapt a classifier to images (n, C, H, W) with labels (n,) in 0..n_way-1.

        `groups`: n values, equal for images that belong together; early stopping holds out whole groups. Raises
        `DataError` for an empty or inconsistent support set, `TrainingError` if the loss is not finite.
        """
        if self.descent.augmentation.changes and images.dtype != torch.uint8:
            raise FewShotError(f"finetune: augmentation needs uint8 images, got {images.dtype}")
        support = order_support(images, labels, n_way, groups, self.seed)
        with uncached_autocast(images.device):
            n_steps, n_held_out = self._stop(support, n_way)
            network = self._begin(support, n_way)
            descend(network, support, self.descent, n_steps)
        return self._make_classifier(network, n_steps, n_held_out)

    def restore(self, state: Mapping[str, Tensor], n_way: int) -> FittedClassifier:
        """Rebuild a classifier from its `FittedClassifier.state`, with the same options and backbone."""
        network = Network(self.backbone, self.changes, n_way, self.seed)
        own = network.state()
        for name in own.keys() | state.keys():
            theirs, ours = (tuple(t[name].shape) if name in t else None for t in (state, own))
            if theirs != ours:
                raise CheckpointError(
                    f"this state is not of mode {self.changes.mode!r} with {n_way} classes on this backbone: "
                    f"{name} is {theirs or 'missing'}, expected {ours or 'none'}"
                )
        network.head.to(state["head.weight"].dtype)
        network.load_state_dict(dict(state), strict=False)
        return self._make_classifier(network, None, 0)

    def count_trainable(self, n_way: int) -> dict[str, int]:
        """Count the weights that an adaptation to `n_way` classes changes, in the "network" and in the "head"."""
        network = Network(self.backbone, self.changes, n_way, self.seed)
        adapted = [weight.numel() for weight in network.network_parameters().values() if weight.requires_grad]
        return {"network": sum(adapted), "head": sum(weight.numel() for weight in network.head.parameters())}

    def _begin(self, support: Support, n_way: int) -> Network:
        network = Network(self.backbone, self.changes, n_way, support.seed)
        network.begin(support.images, support.labels, self.descent.batch_images)
        return network

    def _stop(self, support: Support, n_way: int) -> tuple[int, int]:
        """Find the number of steps by early stopping; also returns the number of held-out images."""
        out = hold_out(support, self.descent.early_stopping) if self.descent.early_stopping else support.labels < 0
        if not out.any():
            return self.descent.steps, 0
        train = support.select(~out)
        network = self._begin(train, n_way)
        return find_best_step(network, train, support.select(out), self.descent), int(out.sum())

    def _make_classifier(self, network: Network, n_steps: int | None, n_held_out: int) -> FittedClassifier:
        views = (self.descent.augmentation, self.test_views, self.descent.batch_images, self.seed)
        return FittedClassifier(network, *views, n_steps, n_held_out)
