"""Different weights for each task: values, gradients and second derivatives compared with one network at a time."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from fewshot import create_backbone
from fewshot.backbones.surgery.sync_batchnorm import synchronise_batchnorm
from fewshot.methods.inner_loop import task_convolution
from fewshot.methods.inner_loop.episode_statistics import EpisodeStatistics, episode_statistics, moments
from fewshot.methods.inner_loop.task_convolution import Convolution, Geometry
from fewshot.methods.inner_loop.taskwise import TaskWise, _normalises_then_pools
from fewshot.runtime import seeding

TASKS, IMAGES = 3, 4
# Batch normalisation divides by a standard deviation, and each derivative of it once more. The last one of
# conv4-strided sees maps of one pixel: three or four values of a task, whose deviation may be 0.02. A relative change
# of the images by 1e-12 then moves second derivatives by 5,000 times as much, relative to the largest element
# ("plain layers": 30,000 times); the sums within the network round too.
AMPLIFICATION = 1e6


def assert_same_up_to_rounding(ours: list[torch.Tensor], oracle: list[torch.Tensor]) -> None:
    """Check equality of sums of the same terms in different orders, relative to their largest terms.

    The terms are assumed to be as large as the largest sum; those of a bias that a normalisation cancels (sum 0) as
    large as 1.
    """
    for mine, theirs in zip(ours, oracle, strict=True):
        bound = AMPLIFICATION * torch.finfo(theirs.dtype).eps * max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(mine, theirs, rtol=0, atol=bound)


def randomised(module: nn.Module) -> nn.Module:
    """Convert to float64 and randomise scales, some of them negative, which pooling must handle."""
    with seeding.fork(0, "test"):
        for parameter in module.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter)
    return module.double()


def network(name: str) -> nn.Module:
    with seeding.fork(0, "test"):
        if name == "plain layers":  # biases, groups, strides, pooling that overlaps, leaky ReLU, no scale in a norm
            body = nn.Sequential(
                nn.Conv2d(2, 4, 3, bias=True), nn.BatchNorm2d(4, affine=False), nn.LeakyReLU(0.1), nn.MaxPool2d(3, 2),
                nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1, groups=4),
                nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(),
                nn.Linear(36, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3, bias=False),
            )  # fmt: skip
        else:
            body = create_backbone(name, 2, 16, **({} if name == "resnet10" else {"n_filters": 4}))
    return randomised(body)


def forward(body, images, weights=None, n_tasks=TASKS, counted=None, dtype=None) -> torch.Tensor:
    """Run `body` on images (n_tasks * n, ...) with different `weights` for each task."""
    with TaskWise(n_tasks, len(images) // n_tasks, counted, dtype) as engine, engine.pool_first(body.eval()):
        return functional_call(body, weights or {}, (images,))


def derivatives(run, weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Output, gradient of a function of it, and gradient of a function of that gradient."""
    leaves = list(weights.values())
    output = run(weights)
    first = torch.autograd.grad(output.square().mean() + output.sin().sum(), leaves, create_graph=True)
    mixed = sum((g.sin() * torch.linspace(0, 1, g.numel(), dtype=g.dtype).view(g.shape)).sum() for g in first)
    return [output, *first, *torch.autograd.grad(mixed, leaves)]


@pytest.mark.parametrize("name", ["conv4", "conv4-strided", "conv4-relation", "resnet10", "plain layers"])
def test_all_tasks_at_once_equal_one_after_the_other(name):
    body, generator = network(name), seeding.generator(1, name)
    images = torch.randn(TASKS * IMAGES, 2, 16, 16, dtype=torch.float64, generator=generator)
    weights = {
        key: p.detach() + 0.1 * torch.randn(TASKS, *p.shape, dtype=torch.float64, generator=generator)
        for key, p in body.named_parameters()
    }
    weights = {key: weight.requires_grad_() for key, weight in weights.items()}

    def together(weights):
        return forward(body, images, weights)

    def singly(weights):
        single = copy.deepcopy(body).train()
        parts = ({key: weight[t] for key, weight in weights.items()} for t in range(TASKS))
        pairs = zip(parts, images.split(IMAGES), strict=True)
        return torch.cat([functional_call(single, part, (batch,)) for part, batch in pairs])

    assert_same_up_to_rounding(derivatives(together, weights), derivatives(singly, weights))


def test_conv4_pools_before_it_normalises_on_one_process_and_on_several():
    body = create_backbone("conv4", 1, 16).eval()
    for _ in range(2):
        assert sum(map(_normalises_then_pools, body.modules())) == 4
        synchronise_batchnorm(body)


@pytest.fixture(params=["matrix products", "one by one", "one by one backwards"])
def way_of_convolving(request, monkeypatch):
    """Each way of computing a convolution of many tasks, whatever its size."""
    never = 1 << 60
    one_by_one = 0 if request.param == "one by one" else never
    monkeypatch.setattr(task_convolution, "PIXELS_ONE_BY_ONE", one_by_one)
    backwards = never if request.param == "matrix products" else 0
    monkeypatch.setattr(task_convolution, "PIXELS_ONE_BY_ONE_BACK", backwards)


@pytest.mark.parametrize(("side", "k", "padding", "stride"), [(6, 3, 1, 1), (7, 3, 1, 2), (6, 3, 1, 2), (8, 3, 0, 3)])
@pytest.mark.usefixtures("way_of_convolving")
def test_convolution_of_many_tasks(side, k, padding, stride):
    generator = seeding.generator(7)
    maps = torch.randn(2, 2, side, side, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(2, 4, 3, k, k, dtype=torch.float64, generator=generator, requires_grad=True)

    def run(maps, weight):
        return Convolution.apply(maps, weight.permute(0, 3, 4, 2, 1).reshape(2, -1, 4), Geometry(k, padding, stride))

    for task, ours in enumerate(run(maps, weight)):
        oracle = F.conv2d(maps[task].permute(0, 3, 1, 2), weight[task], stride=stride, padding=padding)
        torch.testing.assert_close(ours.permute(0, 3, 1, 2), oracle)
    assert torch.autograd.gradcheck(run, (maps, weight))
    assert torch.autograd.gradgradcheck(run, (maps, weight))


def test_images_that_do_not_count_change_no_statistic():
    body = network("conv4")
    images = torch.randn(TASKS, IMAGES, 2, 16, 16, dtype=torch.float64, generator=seeding.generator(2))
    counted = torch.tensor([[True] * 4, [True, False, True, False], [True] * 4])
    weights = {key: p.detach().expand(TASKS, *p.shape).clone().requires_grad_() for key, p in body.named_parameters()}

    def masked(weights):
        return forward(body, images.flatten(0, 1), weights, counted=counted)[counted.flatten()]

    def cut(weights):
        single = copy.deepcopy(body).train()
        parts = [({key: weight[t] for key, weight in weights.items()}, images[t, counted[t]]) for t in range(TASKS)]
        return torch.cat([functional_call(single, part, (batch,)) for part, batch in parts])

    assert_same_up_to_rounding(derivatives(masked, weights), derivatives(cut, weights))


@pytest.mark.parametrize("name", ["conv4", "conv4-strided", "plain layers"])
def test_a_number_counts_the_first_images(name):
    body, counted = network(name), torch.tensor([True, True, True, False]).expand(TASKS, -1)
    images = torch.randn(TASKS * IMAGES, 2, 16, 16, dtype=torch.float64, generator=seeding.generator(5))
    weights = {key: p.detach().expand(TASKS, *p.shape).clone().requires_grad_() for key, p in body.named_parameters()}

    def run(counted):
        return derivatives(lambda weights: forward(body, images, weights, counted=counted), weights)

    assert_same_up_to_rounding(run(3), run(counted))


def test_uncounted_images_are_normalised_too():
    body = network("conv4")
    images = torch.randn(1, 5, 2, 16, 16, dtype=torch.float64, generator=seeding.generator(3))
    counted = torch.tensor([[True, True, True, False, False]])
    with torch.enable_grad():
        both = forward(body, images[0], n_tasks=1, counted=counted)
        one_less = forward(body, images[0, :4], n_tasks=1, counted=counted[:, :4])
    torch.testing.assert_close(both[:4], one_less)
    assert both[3:].abs().sum() > 0


@pytest.mark.parametrize("name", ["conv4", "conv4-strided"])
def test_bfloat16_convolutions_agree(name):
    body = network(name).float()
    images = torch.randn(TASKS * IMAGES, 2, 16, 16, generator=seeding.generator(4))
    weights = {key: p.detach().expand(TASKS, *p.shape) for key, p in body.named_parameters()}
    outputs = []
    for dtype in (None, torch.bfloat16):
        with torch.enable_grad():
            outputs.append(forward(body, images, weights, dtype=dtype).float())
    assert (outputs[0] - outputs[1]).abs().mean() < 0.02 * outputs[0].abs().mean()


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("counted", [None, 3, torch.tensor([[True, True, False, True], [True, True, True, True]])])
def test_statistics_of_bfloat16_maps_are_exact_to_its_rounding(counted, side):
    norm = randomised(nn.BatchNorm2d(5))
    maps = 3 + torch.randn(8, 5, 6, 6, dtype=torch.float64, generator=seeding.generator(7))
    maps = maps.bfloat16().double()
    if counted is None or isinstance(counted, int):
        rows = [slice(0, counted or 4)] * 2
    else:
        rows = list(counted)
    oracle = []
    for images, counts in zip(maps.split(4), rows, strict=True):
        variance, mean = torch.var_mean(images[counts], (0, 2, 3), correction=0, keepdim=True)
        out = (images - mean) / (variance + norm.eps).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        oracle.append(F.max_pool2d(out, side))
    body = nn.Sequential(norm.float(), nn.MaxPool2d(side)).requires_grad_(False)
    with torch.enable_grad():
        ours = forward(body, maps.bfloat16(), n_tasks=2, counted=counted, dtype=torch.bfloat16)
    exact = torch.cat(oracle).detach()
    half_a_step = torch.finfo(torch.bfloat16).eps / 2 * float(exact.abs().max())
    # rounded to bfloat16: the centred maps, their scale, the result, whose two terms may cancel
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=3 * half_a_step)


@pytest.mark.parametrize("shape", [(2, 3, 2, 2), (1, 24, 1, 1), (3, 8)])
def test_few_bfloat16_values_have_their_exact_moments(shape):
    rows = torch.arange(24).reshape(shape).bfloat16()  # integers: sums are exact
    mean, variance = moments(rows)
    oracle = torch.var_mean(rows.double(), [0, *range(2, rows.ndim)], correction=0)
    torch.testing.assert_close((variance.double(), mean.double()), oracle, rtol=1e-6, atol=0)


@pytest.mark.parametrize("weights_of_tasks", [True, False])
def test_gradients_of_bfloat16_maps_go_through_their_statistics(weights_of_tasks):
    generator = seeding.generator(8)
    maps, upstream = torch.randn(2, 8, 5, 6, 6, dtype=torch.float64, generator=generator).bfloat16()
    weight = torch.rand(5, generator=generator) + 0.5
    given = maps.clone().requires_grad_()
    with TaskWise(2, 4, dtype=torch.bfloat16):
        scale = weight.expand(2, -1) if weights_of_tasks else weight
        out = F.relu(F.batch_norm(given, None, None, scale, torch.zeros_like(scale)))
    (ours,) = torch.autograd.grad(out, given, upstream)
    exact = maps.double().requires_grad_()
    halves = [F.batch_norm(half, None, None, weight.double(), None, True).relu() for half in exact.split(4)]
    (oracle,) = torch.autograd.grad(torch.cat(halves), exact, upstream.double())
    torch.testing.assert_close(ours.double(), oracle, rtol=0.05, atol=0.03)


@pytest.mark.parametrize("training", [True, False])
def test_episode_statistics_are_those_of_a_batch_each_and_leave_no_trace(training):
    norm = randomised(nn.BatchNorm2d(3)).train(training)
    before = copy.deepcopy(norm.state_dict())
    images = torch.randn(8, 3, 5, 5, dtype=torch.float64, generator=seeding.generator(5))
    with episode_statistics(norm, 2, 4):
        ours = norm(images)
    assert norm.training is training
    oracle = torch.cat([copy.deepcopy(norm).train()(half) for half in images.split(4)])
    torch.testing.assert_close(ours, oracle)
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())


@pytest.mark.parametrize("learning", [True, False])
def test_episode_statistics_of_vectors_and_of_counted_inputs(learning):
    norm = randomised(nn.BatchNorm1d(3))
    features = torch.randn(8, 3, dtype=torch.float64, generator=seeding.generator(6))
    counted = torch.tensor([[True, True, False, True], [True, True, True, True]])
    with EpisodeStatistics(2, 4, counted), torch.set_grad_enabled(learning):
        ours = norm.eval()(features)
    assert ours.requires_grad is learning
    oracle = torch.cat([copy.deepcopy(norm).train()(features[[0, 1, 3]]), copy.deepcopy(norm).train()(features[4:])])
    torch.testing.assert_close(ours[[0, 1, 3, 4, 5, 6, 7]], oracle)
    first = features[[0, 1, 3]]  # by hand, for the input that does not count
    by_hand = (features[2] - first.mean(0)) / (first.var(0, correction=0) + norm.eps).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(ours[2], by_hand)
