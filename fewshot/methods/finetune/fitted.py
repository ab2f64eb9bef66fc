"""What an adaptation gives: a classifier of its own, apart from the method and the backbone it came from."""

import torch
from torch import Tensor

from fewshot.errors import FewShotError
from fewshot.images.augment import Augmentation
from fewshot.methods.finetune.network import Network, uncached_autocast
from fewshot.methods.inner_loop.call_with_weights import call_with_weights
from fewshot.runtime import seeding


class FittedClassifier:
    """A network adapted to one support set.

    `n_way`; `n_steps`: the steps that adapted it (None where it was restored); `n_held_out`: images that early
    stopping was judged by.
    `test_views` augmented views of each image are classified beside the plain one and the logits averaged; the
    changes are drawn from `seed`, the same for every image, so none depends on the others or on its place.
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
        """Logits (n, n_way) of images (n, C, H, W); −inf for classes that had no support."""
        with uncached_autocast(images.device), self.network.reading():
            chunks = [self._average_views(chunk) for chunk in images.split(self.batch_images)]
        return torch.cat(chunks) if chunks else images.new_zeros(0, self.n_way, dtype=torch.float32)

    @property
    def state(self) -> dict[str, Tensor]:
        """What differs from the backbone, by name, as tensors of its own that can be saved; see `FineTune.restore`."""
        return {
            name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in self.network.state().items()
        }

    def first_order_logits(self, images: Tensor) -> Tensor:
        """As `logits`, with gradients that go to the weights of the method's own backbone.

        The adapted weights count as the backbone's plus a constant: first-order MAML.
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
        """The images (n, C, H, W) and their augmented views, each (n, C, H, W)."""
        if self.test_views and images.dtype != torch.uint8:
            raise FewShotError(f"finetune: test_views are of uint8 images, got {images.dtype}")
        return [images, *(self._make_view(images, number) for number in range(self.test_views))]

    def _make_view(self, images: Tensor, number: int) -> Tensor:
        """One view of the images: each is changed by the same draw."""
        draws = self.augmentation.draw(1, seeding.generator(self.seed, "finetune view", number))
        return self.augmentation.apply(images, draws.expand(len(images), -1))
