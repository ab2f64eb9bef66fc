"""The result of an adaptation: a classifier that is independent of the method and backbone that made it."""

import torch
from torch import Tensor

from fewshot.errors import FewShotError
from fewshot.images.augment import Augmentation
from fewshot.methods.finetune.network import Network, uncached_autocast
from fewshot.methods.inner_loop.call_with_weights import call_with_weights
from fewshot.runtime import seeding


class FittedClassifier:
    """A network adapted to one support set.

    `n_way`: number of classes; `n_steps`: number of steps that adapted it (None if it was restored); `n_held_out`:
    number of images held out for early stopping. With `test_views`, the logits of an image are averaged with those of
    so many augmented views. These are drawn from `seed` and are the same for every image, so that the logits of an
    image depend neither on other images nor on its position.
    """

    def __init__(
        self,
        network: Network,
        augmentation: Augmentation,
        test_views: int,
        batch_images: int,
        seed: int,
        n_steps: int | None,
        n_held_out: int,
    ) -> None:
        self.network, self.augmentation, self.test_views = network, augmentation, test_views
        self.batch_images, self.seed = batch_images, seed
        self.n_way, self.n_steps, self.n_held_out = len(network.head.present), n_steps, n_held_out

    def logits(self, images: Tensor) -> Tensor:
        """Compute logits (n, n_way) of images (n, C, H, W); −inf for classes without support."""
        with uncached_autocast(images.device), self.network.reading():
            chunks = [self._average_views(chunk) for chunk in images.split(self.batch_images)]
        return torch.cat(chunks) if chunks else images.new_zeros(0, self.n_way, dtype=torch.float32)

    def features(self, images: Tensor) -> Tensor:
        """Compute features (n, D) of images (n, C, H, W) by the adapted network, without augmented views."""
        with uncached_autocast(images.device):
            return self.network.embed(images, self.batch_images)

    @property
    def state(self) -> dict[str, Tensor]:
        """Copies of the tensors that differ from the backbone, by name, to be saved; see `FineTune.restore`."""
        return {
            name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in self.network.state().items()
        }

    def first_order_logits(self, images: Tensor) -> Tensor:
        """Compute logits as `logits` does, with gradients in the weights of the method's backbone.

        The adapted weights are taken as those of the backbone plus a constant, as in first-order MAML.
        """
        here = dict(self.network.named_parameters())
        moved = {name: weight + (here[name] - weight).detach() for name, weight in self.network.origins}
        with uncached_autocast(images.device):
            return sum(call_with_weights(self.network, moved, view) for view in self._make_views(images)) / (
                1 + self.test_views
            )

    def _average_views(self, images: Tensor) -> Tensor:
        return sum(self.network(view) for view in self._make_views(images)) / (1 + self.test_views)

    def _make_views(self, images: Tensor) -> list[Tensor]:
        """Make the augmented views of images (n, C, H, W): a list of the images and each view."""
        if self.test_views and images.dtype != torch.uint8:
            raise FewShotError(f"finetune: test_views need uint8 images, got {images.dtype}")
        return [images, *(self._make_view(images, number) for number in range(self.test_views))]

    def _make_view(self, images: Tensor, number: int) -> Tensor:
        """Make one view of the images, all changed by the same draw."""
        draws = self.augmentation.draw(1, seeding.generator(self.seed, "finetune view", number))
        return self.augmentation.apply(images, draws.expand(len(images), -1))
