"""Inputs for the tests of all methods: options for toy episodes, vectors of known classes, a small network."""

import pytest
import torch
from torch import nn

from fewshot import EpisodeSampler, EpisodeSpec, create_backbone, create_method, list_methods
from fewshot.methods import find_method
from fewshot.runtime import seeding

WAY, SHOT, QUERY, DIM = 4, 3, 5, 6
ADAPTED = {"inner_steps": 1, "test_inner_steps": 60, "inner_lr": 0.1, "n_way": WAY}
OPTIONS = {  # what a method needs to be told of the toy episodes; otherwise its defaults are tested
    "aligned": {"layout": [2, 1, 2]},
    "anil": ADAPTED | {"feature_dim": DIM, "inner_lr": 0.02},
    "finetune": {"steps": 2},
    "maml": ADAPTED,
    "maml-learn2learn": ADAPTED,
}
VARIANTS = [
    *((name, OPTIONS.get(name, {})) for name in list_methods()),
    ("matching", {"similarity": "squared_euclidean"}),
    ("matching", {"full_context": True, "feature_dim": DIM}),
    ("maml", ADAPTED | {"transductive": True, "learn_inner_lr": True, "order": 1}),
    ("anil", OPTIONS["anil"] | {"transductive": True}),
    ("anil", OPTIONS["anil"] | {"support_statistics": True}),
    ("baseline", {"solver": "logistic"}),
    ("baseline++", {"solver": "logistic"}),
    ("finetune", {"mode": "full", "steps": 2}),
    ("simpleshot", {"transform": "UN"}),
    ("simpleshot", {"transform": "L2N"}),
    ("gda", {"shrinkage": 0.3}),
    ("gda", {"normalize": False}),
    ("nearest", {"k": 3}),
    ("relation", {"transductive": True}),
]
BACKBONES = {"relation": "conv4-relation"}  # on small images, where the maps of "conv4" are too small to compare

CONVERGES = "the solver asks whether all episodes have converged"
COUNTS = "SGD asks how many images each episode has"
SELECTS = "the images that are no padding are picked out of each episode"
WHOLE = "the statistics are taken by another kernel where no support is padded"
WAITING = {  # methods, by `names`, that make the host wait in each forward pass, and what for
    "aligned": CONVERGES,
    "anil support_statistics=True": WHOLE,
    "anil transductive=True": WHOLE,
    "baseline": COUNTS,
    "baseline++": COUNTS,
    "baseline solver=logistic": CONVERGES,
    "baseline++ solver=logistic": CONVERGES,
    "finetune": SELECTS,
    "finetune mode=full": SELECTS,
    "maml": WHOLE,
    "maml transductive=True learn_inner_lr=True order=1": WHOLE,
    "maml-learn2learn": SELECTS,
    "relation transductive=True": WHOLE,
    "simpleshot": "it refuses to answer before it has learnt the base classes' mean",
}
# ANIL trains by the statistics of the whole batch; MAML's episodes in training have fixed numbers
WAITING_AT_TEST_ALONE = {
    "anil support_statistics=True",
    "maml",
    "maml transductive=True learn_inner_lr=True order=1",
}


class Vectors(nn.Module):
    """A network for vectors given as images (n, DIM, 1, 1): a normalised linear layer, at first the identity."""

    feature_dim, in_channels, input_px = DIM, DIM, 1

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(DIM, DIM, bias=False), nn.BatchNorm1d(DIM)
        nn.init.eye_(self.linear.weight)

    def forward(self, images):
        return self.norm(self.linear(images.flatten(1)))

    def feature_maps(self, images):
        return self(images)[..., None, None].expand(-1, -1, 2, 2)


def skip_without_package(name):
    """Skip the test if the package that the method requires is not installed."""
    package = find_method(name).requires
    if package:
        pytest.importorskip(package, reason=f"{package} is not installed: make {package}")


class OnVectors:
    """A method without a backbone, or with `Vectors` if it needs images; called on features (B, n, DIM)."""

    def __init__(self, name, options):
        skip_without_package(name)
        self.name, self.options = name, options
        method = self._create(Vectors() if find_method(name).needs_network else None)
        self.method = method if method.uses_features else self._create(Vectors())
        self.as_images = self.method.backbone is not None
        if self.method.needs_base_features:
            self.method.learn_base_classes(torch.zeros(2, DIM), torch.tensor([0, 1]))

    def _create(self, backbone):
        with seeding.fork(0, "test"):
            return create_method(self.name, backbone, **self.options).eval()

    def __call__(self, support, labels, query, n_way, **context):
        if self.as_images:
            support, query = support[..., None, None], query[..., None, None]
        return self.method(support, labels, query, n_way, **context)


def variants_that(fact):
    """The variants for whose instances `fact` is true; those whose package is missing are skipped."""
    chosen = []
    for name, options in VARIANTS:
        try:
            if getattr(OnVectors(name, options).method, fact):
                chosen.append((name, options))
        except pytest.skip.Exception as missing:
            chosen.append(pytest.param((name, options), marks=pytest.mark.skip(str(missing))))
    return chosen


def features(seed: int = 0, n_episodes: int = 3, spread: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Support (B, WAY * SHOT, DIM), its labels, queries, their labels; `spread` parts the classes.

    Class centres are orthogonal: apart in every direction, for methods that see directions only.
    """
    generator = seeding.generator(seed, "test")
    centres = torch.randn(n_episodes, DIM, WAY, generator=generator)
    centres = 2 * spread * torch.linalg.qr(centres).Q.mT  # (n_episodes, WAY, DIM)
    parts = []
    for n in (SHOT, QUERY):
        labels = torch.arange(WAY).repeat_interleave(n).expand(n_episodes, -1)
        noise = torch.randn(n_episodes, WAY * n, DIM, generator=generator)
        parts += [centres.gather(1, labels[..., None].expand(-1, -1, DIM)) + noise, labels]
    return tuple(parts)


def names(variant):
    own = [f"{key}={value}" for key, value in variant[1].items() if key not in OPTIONS.get(variant[0], ())]
    return " ".join([variant[0], *own])


def on_images(variant, train_set, n_episodes=2):
    """The method of `variant` on a small network that has learned `train_set`, and a batch of episodes of images."""
    name, leave_out = variant[0], ("feature_dim", "test_inner_steps")  # many steps at test would amplify rounding
    options = {key: value for key, value in variant[1].items() if key not in leave_out}
    skip_without_package(name)
    with seeding.fork(0, "test"):
        backbone = create_backbone(BACKBONES.get(name, "conv4"), 1, 16, n_filters=8)
        method = create_method(name, backbone, **options)
    if method.needs_base_features:
        images = train_set.gather(torch.arange(40))
        method.learn_base_classes(method.encode(images).detach(), torch.arange(40))
    sampler = EpisodeSampler(train_set, EpisodeSpec(WAY, 2, 3))
    return method, sampler.batch(0, n_episodes).fill(sampler.data)
