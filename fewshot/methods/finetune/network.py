"""`Network`: the copy of a backbone that an episode adapts, with the modules of a mode and a head."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fewshot.methods.finetune.heads import CosineHead, LinearHead
from fewshot.methods.finetune.modes import thaw
from fewshot.methods.finetune.options import Changes
from fewshot.runtime import seeding


class Network(nn.Module):
    """A copy of `backbone` in evaluation mode, changed as `changes` says, with a head for `n_way` classes.

    Batch normalisation always uses running statistics, and the network's own dropout is off. Exactly the adapted
    weights require gradients, whichever of the backbone's weights do. `extras`: the module that the mode adds, if any.
    Initial values of added weights depend on `seed`.
    """

    def __init__(self, backbone: nn.Module, changes: Changes, n_way: int, seed: int) -> None:
        super().__init__()
        copies: dict[int, nn.Parameter] = {}
        self.backbone = copy.deepcopy(backbone, copies).eval().requires_grad_(False)
        self.changes = changes
        with seeding.fork(seed, "finetune", changes.mode):
            self.extras = thaw(self.backbone, changes)
        self.head: LinearHead | CosineHead = (
            LinearHead(backbone.feature_dim, n_way)
            if changes.head == "linear"
            else CosineHead(backbone.feature_dim, n_way, changes.scale)
        )
        self.to(next(self.backbone.parameters(), self.head.weight).device)
        self.to(memory_format=torch.channels_last)  # faster convolutions on a CPU
        # pairs of the name of a copied weight and the weight of the backbone
        names = {id(weight): name for name, weight in self.named_parameters()}
        self.origins = [(names[id(copies[id(weight)])], weight) for weight in backbone.parameters()]

    @property
    def frozen(self) -> bool:
        """Whether the head alone is adapted."""
        return not any(weight.requires_grad for weight in self.network_parameters().values())

    def network_parameters(self) -> dict[str, nn.Parameter]:
        """All weights except those of the head, by name."""
        return {name: weight for name, weight in self.named_parameters() if not name.startswith("head.")}

    def state(self) -> dict[str, Tensor]:
        """What an adaptation changes, by name: the adapted weights, and the weights and buffers of the head."""
        adapted = {name: weight for name, weight in self.named_parameters() if weight.requires_grad}
        kept = {f"head.{name}": buffer for name, buffer in self.head.named_buffers()}
        return adapted | kept

    def begin(self, images: Tensor, labels: Tensor, batch_images: int) -> None:
        """Initialise the head from the support's images (n, C, H, W) and labels (n,)."""
        features = self.embed(images, batch_images)
        self.head.begin(features, labels, self.changes.head_start == "prototypes")

    def prepare(self, images: Tensor) -> Tensor:
        """Prepare images for the backbone's body once, instead of in each step."""
        prepare = getattr(self.backbone, "prepare", None)
        return prepare(images) if images.dtype == torch.uint8 and prepare is not None else images

    def features(self, images: Tensor) -> Tensor:
        """Compute features (n, D), float32 or wider, of images (n, C, H, W)."""
        features = self.backbone(images)
        return features.float() if features.dtype.itemsize < 4 else features

    def embed(self, images: Tensor, batch_images: int) -> Tensor:
        """Compute features (n, D) without gradients, `batch_images` at a time."""
        with self.reading():
            return torch.cat([self.features(chunk) for chunk in images.split(batch_images)])

    def logits(self, features: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Compute logits (n, n_way) of features (n, D); `dropped` (n, D) is a dropout mask for the head's inputs."""
        with torch.autocast(features.device.type, enabled=False):
            inputs = self.head.transform(features)
            return self.head(inputs if dropped is None else inputs * dropped)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (n, n_way) of images (n, C, H, W)."""
        return self.logits(self.features(images))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within the block no graph is built.

        With LoRA this is not done by `no_grad`, under which our ConvBlock folds the base weights of its layers and
        would ignore what LoRA adds to them. Instead no weight requires a gradient, which builds no graph either.
        """
        if self.changes.mode != "lora":
            with torch.no_grad():
                yield
            return
        wanting = [weight for weight in self.parameters() if weight.requires_grad]
        for weight in wanting:
            weight.requires_grad_(False)
        try:
            with torch.enable_grad():
                yield
        finally:
            for weight in wanting:
                weight.requires_grad_(True)


@contextmanager
def uncached_autocast(device: torch.device) -> Iterator[None]:
    """Within the block the current autocast has no cache, which would keep the weights of the first step."""
    kind = device.type
    dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    with torch.autocast(kind, dtype, enabled=enabled, cache_enabled=False):
        yield
