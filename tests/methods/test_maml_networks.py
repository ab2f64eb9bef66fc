"""MAML on networks of many families, compared with a plain loop in float64; errors for those it cannot adapt."""

import copy

import pytest
import torch
from maml_oracle import batch_statistics, plain_maml
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewshot import Episode, create_backbone, create_method
from fewshot.errors import ConfigError
from fewshot.runtime import seeding

TASKS, WAY, SHOT, QUERIES, LR = 2, 2, 2, 4, 0.01
# Side in pixels, order, options. Few values a channel make batch normalisation, and so the comparison, ill-conditioned.
NETWORKS = {
    "timm/ghostnet_050": (64, 2, {"drop_rate": 0.0}),  # concatenates, adds and cuts normalised maps
    "timm/mobileone_s0": (64, 1, {}),  # adds up branches that begin at 0
    "timm/mobilenetv3_small_050": (64, 2, {}),  # hard sigmoid, of which torch has no second derivative
    "timm/densenet121": (64, 1, {}),  # normalises concatenations
    "timm/regnetx_002": (32, 2, {}),
    "timm/resnet10t": (32, 2, {}),
    "timm/test_efficientnet": (64, 2, {}),
    "timm/test_nfnet": (32, 2, {}),  # standardises weights by the function of batch normalisation
    "timm/levit_128s": (64, 2, {}),  # normalises tokens as rows; attention
    "timm/test_vit": (64, 2, {}),  # fused attention, of which torch has no second derivative
    "timm/test_convnext": (32, 2, {}),
}
TOGETHER = {name for name in NETWORKS if name.split("/")[1].split("_")[0] not in ("levit", "test")} | {
    "timm/test_efficientnet"
}


def maml(backbone: nn.Module, **options: object):
    with seeding.fork(0, "test"):
        method = create_method("maml", backbone, n_way=WAY, inner_lr=LR, tasks_at_once=TASKS, **options)
    return method.double().train()


def network(name: str, px: int, **options: object) -> nn.Module:
    pytest.importorskip("timm")
    with seeding.fork(0, "test"):
        return create_backbone(name, 3, px, **options)


def episodes(px: int, channels: int = 3) -> Episode:
    generator = seeding.generator(0, "networks")
    labels = torch.arange(WAY).repeat(SHOT).expand(TASKS, -1)
    support, query = (
        torch.rand(TASKS, n, channels, px, px, dtype=torch.float64, generator=generator) for n in (WAY * SHOT, QUERIES)
    )
    return Episode(support, labels, query, torch.arange(WAY).repeat(QUERIES // WAY).expand(TASKS, -1), WAY, labels)


def plain(method, batch: Episode, order: int):
    """Query logits and meta-gradients by name, from a loop over the tasks; every derivative exists."""
    backbone = batch_statistics(method.backbone)
    leaves = {f"backbone.{key}": p for key, p in backbone.named_parameters()}
    leaves |= {
        f"classifier.{key}": p.detach().clone().requires_grad_() for key, p in method.classifier.named_parameters()
    }
    head = leaves["classifier.weight"], leaves["classifier.bias"]
    options = dict(order=order, steps=1, lr=LR, reduction="sum/K")
    with pytest.MonkeyPatch.context() as patch, sdpa_kernel(SDPBackend.MATH):
        patch.setattr(F, "hardsigmoid", lambda x, inplace=False: (x + 3).clamp(0, 6) / 6)
        rows = zip(batch.support, batch.support_labels, batch.query, strict=True)
        logits = torch.stack([plain_maml(backbone, *head, *row, **options)[1] for row in rows])
        loss = F.cross_entropy(logits.flatten(0, 1), batch.query_labels.flatten())
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return logits, dict(zip(leaves, gradients, strict=True))


def same(ours: torch.Tensor, oracle: torch.Tensor, scale: torch.Tensor, name: str = "") -> None:
    """Check equality up to rounding in float64, which tens of layers amplify."""
    assert (ours - oracle).abs().max() <= 1e-7 * scale, name


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_many_families_equal_the_plain_loop(name):
    px, order, options = NETWORKS[name]
    method, batch = maml(network(name, px, **options), order=order, adapt_norm=True, transductive=True), episodes(px)
    assert method.together is (name in TOGETHER)
    before = copy.deepcopy(method.state_dict())
    logits, gradients = plain(method, batch, order)
    loss, ours = method.loss_and_logits(batch)
    loss.backward()
    same(ours, logits, logits.abs().max())
    largest = max(gradient.abs().max() for gradient in gradients.values())
    assert largest > 0.01
    for key, gradient in gradients.items():
        same(method.get_parameter(key).grad, gradient, largest, key)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    assert not any("forward" in vars(module) for module in method.modules())


@pytest.mark.parametrize("name", ["timm/ghostnet_050", "timm/test_nfnet", "timm/levit_128s", "timm/test_efficientnet"])
@pytest.mark.parametrize("learning", [False, True])
def test_queries_are_normalised_by_the_support_alone(name, learning):
    """If the support also serves as queries, both have the same statistics, so both forms agree."""
    px, _, options = NETWORKS[name]
    inductive, batch = maml(network(name, px, **options), order=1), episodes(px)
    transductive = maml(copy.deepcopy(inductive.backbone), order=1, transductive=True)
    transductive.load_state_dict(inductive.state_dict())
    labels = batch.support_labels.clone()
    labels[0, 0] = -1  # padding in one task
    with torch.set_grad_enabled(learning):
        more = inductive(batch.support, labels, torch.cat([batch.support, batch.query], 1), WAY)
        for task, real in enumerate(labels != -1):
            support, own = batch.support[task, real][None], labels[task, real][None]
            oracle = transductive(support, own, support, WAY)
            same(more[task, : WAY * SHOT][real][None], oracle, oracle.abs().max())


def test_weights_that_the_network_does_not_use_stay():
    class Partial(nn.Module):
        feature_dim = 4

        def __init__(self, spare):
            super().__init__()
            self.used = nn.Linear(12, 4)
            self.unused = nn.Linear(12, 4) if spare else None

        def forward(self, images):
            return self.used(images.flatten(1)).tanh()

    method, oracle = maml(Partial(spare=True)), maml(Partial(spare=False))
    oracle.load_state_dict({key: value for key, value in method.state_dict().items() if "unused" not in key})
    batch = episodes(2)
    logits, gradients = plain(oracle, batch, 2)
    loss, ours = method.loss_and_logits(batch)
    loss.backward()
    torch.testing.assert_close(ours, logits)
    torch.testing.assert_close(method.backbone.used.weight.grad, gradients["backbone.used.weight"])
    assert method.backbone.unused.weight.grad.abs().sum() == 0


class Twice(nn.Module):
    """Runs a layer twice: from one or two places, or two layers that share a weight."""

    feature_dim = 12

    def __init__(self, kind):
        super().__init__()
        self.first = nn.Linear(12, 12, bias=False)
        if kind == "layer in two places":
            self.second = self.first
        elif kind == "weight in two layers":
            self.second = nn.Linear(12, 12, bias=False)
            self.second.weight = self.first.weight

    def forward(self, images):
        return getattr(self, "second", self.first)(self.first(images.flatten(1)).tanh()).tanh()


@pytest.mark.parametrize("kind", ["layer in two places", "weight in two layers"])
def test_weights_in_several_places_are_one_weight(kind):
    method, oracle = maml(Twice(kind)), maml(Twice("one layer"))
    oracle.load_state_dict({key: value for key, value in method.state_dict().items() if "second" not in key})
    batch = episodes(2)
    logits, gradients = plain(oracle, batch, 2)
    for _ in range(2):  # the first time leaves nothing behind
        method.zero_grad()
        loss, ours = method.loss_and_logits(batch)
        loss.backward()
        torch.testing.assert_close(ours, logits)
        torch.testing.assert_close(method.backbone.first.weight.grad, gradients["backbone.first.weight"])
    assert len(list(method.parameters())) == 3


class Small(nn.Module):
    """A small network with `layers` in its middle, on maps of 4 channels."""

    feature_dim = 4

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.layers, self.last = nn.Sequential(*layers), nn.Linear(4, 4)

    def forward(self, images):
        return self.last(self.layers(self.norm(self.first(images)).tanh()).mean((2, 3)))


@pytest.mark.parametrize("frozen", ["bias", "weight"])
def test_a_layer_may_be_frozen_in_part(frozen):
    with seeding.fork(0, "test"):
        body = Small(nn.Conv2d(4, 4, 3, groups=4), nn.Tanh(), nn.Conv2d(4, 4, 3, padding="same"))
    method, batch = maml(body, adapt_norm=True, transductive=True), episodes(8)
    for key, p in method.backbone.named_parameters():
        p.requires_grad_(not key.endswith(frozen))
    oracle = copy.deepcopy(method)
    oracle.together = False
    for one in (method, oracle):
        one.loss(batch).backward()
    torch.testing.assert_close(method.loss_and_logits(batch)[1], oracle.loss_and_logits(batch)[1])
    for (key, p), other in zip(method.named_parameters(), oracle.parameters(), strict=True):
        assert (p.grad is None) == (other.grad is None), key
        if p.grad is not None:
            torch.testing.assert_close(p.grad, other.grad, msg=key)


def test_a_sequence_may_be_cut_in_two_between_normalisation_and_pooling():
    class Listened(nn.Module):
        """Calls the layers of a sequence one by one, as networks do that return inner maps."""

        feature_dim = 8

        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2))

        def forward(self, images):
            maps, whole = [images], self.layers(images)
            for layer in self.layers:
                maps.append(layer(maps[-1]))
            return torch.cat([maps[2].amax((2, 3)), maps[2].mean((2, 3))], 1) + 0 * whole.sum()

    with seeding.fork(0, "test"):
        method, batch = maml(Listened(), adapt_norm=True, transductive=True), episodes(8)
    logits, gradients = plain(method, batch, 2)
    loss, ours = method.loss_and_logits(batch)
    loss.backward()
    torch.testing.assert_close(ours, logits)
    for key, gradient in gradients.items():
        torch.testing.assert_close(method.get_parameter(key).grad, gradient, msg=key)


class Scale(nn.Module):
    """Has a weight outside the layers that support different weights for each task."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, maps):
        return maps * self.weight


@pytest.mark.parametrize("kind", ["one task at a time", "frozen linear layer", "timm/test_vit"])
def test_bfloat16_agrees(kind):
    px = 64 if kind.startswith("timm") else 8
    body = (
        network(kind, px)
        if kind.startswith("timm")
        else Small(*[Scale(), nn.Conv2d(4, 4, 1)][: 2 * (kind == "one task at a time")])
    )
    method, batch = maml(body, order=1, inner_reduction="mean").float(), episodes(px)
    if kind == "frozen linear layer":
        method.backbone.last.requires_grad_(False)
    assert method.together is (kind == "frozen linear layer")
    arguments = (batch.support.float(), batch.support_labels, batch.query.float(), WAY)
    full = method(*arguments).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        half = method(*arguments).softmax(-1)
    assert 0 < (full - half).abs().mean() < 0.03


class TokensFirst(nn.Module):
    """Normalises (pixels, n, 4), so that rows are not those of images."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, maps):
        tokens = maps.flatten(2).permute(2, 1, 0)  # (pixels, 4, n)
        return self.norm(tokens[:7]).permute(2, 1, 0)[..., None]


class Once(nn.Module):
    """A function that torch can differentiate only once."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Conv2d(4, 4, 1)

    def forward(self, maps):
        return torch._C._nn.hardsigmoid(self.scale(maps))


class Counting(nn.Module):
    """Keeps its own running statistics."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("running_var", torch.ones(4))

    def forward(self, maps):
        return maps * self.weight


def test_layers_that_cannot_be_adapted_are_named():
    batch = episodes(8)
    with pytest.raises(
        ConfigError, match=r"the layer 'layers.0.norm' \(BatchNorm1d\) cannot be adapted .* are not those of images"
    ):
        maml(Small(TokensFirst())).loss(batch)
    for steps in (1, 2):  # the second inner step differentiates the first one's gradient
        message = r"order=2 needs second derivatives, .* the layer 'layers.0' \(Once\): .* order=1 does not need them"
        with pytest.raises(ConfigError, match=message):
            maml(Small(Once()), inner_steps=steps).loss(batch)
    assert maml(Small(Once()), order=1).loss(batch).isfinite()
    for name, options in (("maml", {}), ("anil", {"transductive": True}), ("anil", {"support_statistics": True})):
        with pytest.raises(ConfigError, match=rf"{name} normalises .* 'layers.0' \(Counting\) .* \(running_var\)"):
            create_method(name, Small(Counting()), **options)
    anil = create_method("anil", Small(TokensFirst()), n_way=WAY, transductive=True).double().eval()
    with pytest.raises(
        ConfigError, match=r"the layer 'backbone.layers.0.norm' \(BatchNorm1d\) cannot normalise each episode"
    ):
        anil(batch.support, batch.support_labels, batch.query, WAY)
