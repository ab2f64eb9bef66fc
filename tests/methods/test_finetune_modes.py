"""The modes of fine-tuning: which weights each adapts, and which it leaves unchanged."""

import sys

import pytest
import torch
from torch import nn

from fewshot import create_backbone, create_method
from fewshot.errors import ConfigError
from fewshot.methods.finetune import MODES
from fewshot.methods.finetune.adapters import find_channel_dim
from fewshot.methods.finetune.blocks import compute_depths, find_blocks
from fewshot.methods.finetune.lora import find_lora_layers
from fewshot.runtime import seeding

WAY, SIDE = 3, 16
SMALL = {"lora_rank": 2, "adapter_width": 2, "n_prompts": 2, "steps": 2, "lr": 0.01}
FILTERS = 4
CONVOLUTIONS = FILTERS * 9 + 3 * FILTERS * FILTERS * 9  # of one channel, then of FILTERS
NUMBERS = {  # of conv4 with FILTERS filters, by hand
    "linear": 0,
    "cosine": 0,
    "partial": FILTERS * FILTERS * 9 + 2 * FILTERS,
    "batchnorm": 4 * 2 * FILTERS,
    "bias": 4 * FILTERS,
    "full": CONVOLUTIONS + 4 * 2 * FILTERS,
    "lora": (2 * 1 * 9 + FILTERS * 2) + 3 * (2 * FILTERS * 9 + FILTERS * 2),
    "adapter": 4 * ((FILTERS * 2 + 2) + (2 * FILTERS + FILTERS)),
    "prompt": (SIDE + 2 * 2) ** 2 - SIDE**2,
}


def conv4():
    with seeding.fork(0, "test"):
        return create_backbone("conv4", 1, SIDE, n_filters=FILTERS)


def vit(**options):
    options |= {"embed_dim": 8, "depth": 2, "num_heads": 2}
    with seeding.fork(0, "test"):
        return create_backbone("timm/vit_tiny_patch16_224", 3, 32, **options)


def images_of(backbone, seed=0):
    generator = seeding.generator(seed, "test")
    shape = (6, backbone.in_channels, backbone.input_px, backbone.input_px)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), torch.arange(6) % WAY


def adapted(backbone, mode, **options):
    if mode == "lora":
        pytest.importorskip("peft", reason="peft is not installed: pip install 'fewshot[finetune]'")
    method = create_method("finetune", backbone, mode=mode, **SMALL | options).eval()
    return method, method.fit_support(*images_of(backbone), WAY)


def is_adapted(mode, name):
    """Whether a mode adapts the weight `name` (body.blocks.<i>.<0 convolution, 1 normalisation>.…) of conv4."""
    _, _, block, layer, kind = name.split(".")
    return {
        "partial": block == "3",
        "batchnorm": layer == "1",
        "bias": kind == "bias",
        "full": True,
    }.get(mode, False)


@pytest.mark.parametrize("mode", NUMBERS)
def test_a_mode_changes_what_it_says_and_nothing_else(mode):
    backbone = conv4()
    method, fitted = adapted(backbone, mode)
    here = dict(fitted.network.named_parameters())
    for (name, before), (own_name, weight) in zip(backbone.named_parameters(), fitted.network.origins, strict=True):
        assert before is weight
        assert torch.equal(here[own_name], before) is not is_adapted(mode, name), name
    buffers = dict(fitted.network.backbone.named_buffers())
    for name, buffer in backbone.named_buffers():
        after = buffers[name] if name in buffers else buffers[name.replace(".0.", ".0.base_layer.")]
        assert torch.equal(after, buffer), name
    assert method.count_trainable(WAY) == {"network": NUMBERS[mode], "head": WAY * FILTERS + (mode != "cosine") * WAY}
    added = [weight for name, weight in here.items() if weight.requires_grad and not name.startswith("head.")]
    assert sum(weight.numel() for weight in added) == NUMBERS[mode]


@pytest.mark.parametrize("mode", [*NUMBERS, "prompt of a transformer"])
def test_a_state_brings_the_classifier_back(mode):
    mode, _, transformer = mode.partition(" of a ")
    backbone = vit() if transformer else conv4()
    method, fitted = adapted(backbone, mode)
    queries, _ = images_of(backbone, seed=1)
    start = create_method("finetune", backbone, mode=mode, **SMALL | {"steps": 0}).eval()
    assert not torch.allclose(start.fit_support(*images_of(backbone), WAY).logits(queries), fitted.logits(queries))
    assert torch.equal(method.restore(fitted.state, WAY).logits(queries), fitted.logits(queries))


@pytest.mark.parametrize("mode", ["full", "lora", "adapter", "partial"])
def test_before_the_first_step_the_network_is_the_frozen_one(mode):
    backbone = conv4()
    queries, _ = images_of(backbone, seed=1)
    frozen, start = (adapted(backbone, name, steps=0)[1].logits(queries) for name in ("linear", mode))
    if mode == "lora":  # it runs without our ConvBlock's folding, which rounds otherwise
        rounding = (
            1000 * torch.finfo(frozen.dtype).eps * float(frozen.abs().max())
        )  # four layers, sums of 36 to 64 terms
        torch.testing.assert_close(start, frozen, rtol=0, atol=rounding)
        with torch.enable_grad():
            network = adapted(backbone, "lora", steps=0)[1].network
            backbone.eval().to(memory_format=torch.channels_last)  # as the copy is
            assert torch.equal(network.features(queries), backbone(queries))
    else:
        assert torch.equal(start, frozen)


def test_lora_is_a_change_of_the_weights():
    backbone = conv4()
    _, fitted = adapted(backbone, "lora", lora_alpha=6.0, lr=0.1)
    queries, _ = images_of(backbone, seed=1)
    merged = conv4().eval()
    for block, theirs in zip(merged.body.blocks, fitted.network.backbone.body.blocks, strict=True):
        down, up = theirs[0].lora_A["default"].weight, theirs[0].lora_B["default"].weight  # (2, c, 3, 3), (4, 2, 1, 1)
        block[0].weight.data += 6.0 / 2 * torch.einsum("or,rcij->ocij", up[..., 0, 0], down).detach()
        assert up.abs().max() > 0
    with torch.no_grad():  # as queries are classified
        expected = fitted.network.logits(merged(queries))
        torch.testing.assert_close(fitted.logits(queries), expected, rtol=1e-4, atol=1e-5)


def test_lora_leaves_alone_what_it_cannot_change():
    body = nn.ModuleDict(
        {"plain": nn.Conv2d(4, 4, 1), "depthwise": nn.Conv2d(4, 4, 3, groups=4), "mix": nn.MultiheadAttention(4, 1)}
    )
    assert find_lora_layers(body) == ["plain"]


def test_lora_without_peft_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    method = create_method("finetune", conv4(), mode="lora")
    with pytest.raises(ConfigError, match=r"needs peft: pip install 'fewshot\[finetune\]'"):
        method.count_trainable(WAY)


def test_adapters_on_tokens_and_where_channels_are():
    backbone = vit()
    method, fitted = adapted(backbone, "adapter", steps=0)
    queries, _ = images_of(backbone, seed=1)
    with torch.no_grad():
        untouched = backbone.eval()(queries)
        # adapters start at nothing, but other instructions sum the same products in another order: a few roundings
        torch.testing.assert_close(fitted.network.features(queries), untouched, rtol=1e-5, atol=1e-5)
    assert method.count_trainable(WAY)["network"] == 2 * ((8 * 2 + 2) + (2 * 8 + 8))
    assert [find_channel_dim(shape) for shape in ((1, 8, 4, 4), (1, 4, 4, 8), (1, 5, 8), (1, 4, 4, 4))] == [
        1,
        -1,
        -1,
        1,
    ]


@pytest.mark.parametrize(("deep", "pool"), [(True, "token"), (False, "token"), (True, "avg")])
def test_prompts_are_tokens_beside_the_image_s(deep, pool):
    backbone = vit(global_pool=pool)
    method, fitted = adapted(backbone, "prompt", deep_prompts=deep)
    assert method.count_trainable(WAY)["network"] == (2 if deep else 1) * 2 * 8
    queries, _ = images_of(backbone, seed=1)
    prompts, body = fitted.network.extras.tokens, backbone.body.model.eval()
    x = body._pos_embed(body.patch_embed(backbone.prepare(queries)))  # the class token, then 2 x 2 patches
    assert x.shape == (6, 5, 8)
    for i, block in enumerate(body.blocks):
        if i == 0 or deep:
            inside = x[:, 1:] if i == 0 else x[:, 3:]
            x = torch.cat([x[:, :1], prompts[i].expand(6, -1, -1), inside], 1)
        x = block(x)
        assert x.shape == (6, 7, 8)
    x = body.norm(x)
    expected = body.fc_norm(x[:, 0] if pool == "token" else x[:, 3:].mean(1))  # no prompt is pooled
    torch.testing.assert_close(fitted.network.features(queries), expected)


def test_prompts_are_a_frame_around_the_image():
    backbone = create_backbone("conv4", 3, SIDE, n_filters=FILTERS)
    _, fitted = adapted(backbone, "prompt")
    queries, _ = images_of(backbone, seed=1)
    frame = fitted.network.extras
    expected = torch.zeros(6, 3, SIDE + 4, SIDE + 4)
    expected[:, :, :2], expected[:, :, -2:] = frame.rows[:, :2], frame.rows[:, 2:]
    expected[:, :, 2:-2, :2], expected[:, :, 2:-2, -2:] = frame.columns[..., :2], frame.columns[..., 2:]
    expected[:, :, 2:-2, 2:-2] = queries / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (backbone.mean, backbone.std))
    features = backbone.eval().body((expected - mean) / std).flatten(1)
    torch.testing.assert_close(fitted.network.features(queries), features, rtol=1e-4, atol=1e-5)
    start = adapted(backbone, "prompt", steps=0)[1].network.extras
    assert 0 <= start.rows.min() < 0.1 < 0.9 < start.rows.max() <= 1
    assert not torch.equal(start.rows, frame.rows)
    assert not torch.equal(start.columns, frame.columns)


@pytest.mark.parametrize(
    ("backbone", "why"),
    [
        (lambda: create_backbone("conv4", 1, 28, n_filters=FILTERS), "it gives 16 features .* instead of 4"),
        (lambda: create_backbone("pixels", 1, SIDE), "it gives 400 features of such images instead of 256"),
        (lambda: create_backbone("timm/gmlp_ti16_224", 3, 224), r"height \(228\) doesn't match"),
    ],
)
def test_backbones_of_one_size_take_no_frame(backbone, why):
    with pytest.raises(ConfigError, match=why):
        adapted(backbone(), "prompt")


def test_a_frame_needs_a_body_to_stand_before():
    backbone = nn.ModuleDict({"layers": nn.Linear(3, 3)})
    backbone.feature_dim = 3
    with pytest.raises(ConfigError, match="a backbone with a body, this is ModuleDict"):
        create_method("finetune", backbone, mode="prompt").count_trainable(WAY)


def test_the_last_blocks_and_what_follows():
    _, fitted = adapted(vit(), "partial", n_blocks=1)
    names = {name.removeprefix("backbone.body.model.") for name in fitted.state}
    assert {name.split(".")[0] for name in names} == {"blocks", "norm", "head"}
    assert {name.split(".")[1] for name in names if name.startswith("blocks")} == {"1"}
    with pytest.raises(ConfigError, match="n_blocks is 3, but this backbone has 2 blocks"):
        create_method("finetune", vit(), mode="partial", n_blocks=3).count_trainable(WAY)


def two_layers():
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU())


class Staged(nn.Module):
    """A network with stages, named as in the libraries."""

    def __init__(self, **parts):
        super().__init__()
        self.stem = nn.Conv2d(1, 1, 1)
        for name, part in parts.items():
            self.add_module(name, part)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = two_layers()


def in_order(*parts):
    return nn.Sequential(*parts)


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (Staged(blocks=in_order(Block(), Block())), "blocks.0 blocks.1"),
        (Staged(blocks=in_order(in_order(Block(), Block()), in_order(Block()))), "blocks.0.0 blocks.0.1 blocks.1.0"),
        (Staged(stages=in_order(Staged(blocks=nn.ModuleList([Block()])))), "stages.0.blocks.0"),
        (Staged(layer1=in_order(Block(), Block()), layer2=in_order(Block())), "layer1.0 layer1.1 layer2.0"),
        (Staged(encoder=Staged(layers=in_order(Block(), Block()))), "encoder.layers.0 encoder.layers.1"),
        (Staged(features=in_order(nn.Conv2d(1, 1, 1), Block(), nn.ReLU(), Block())), "features.1 features.3"),
        (Staged(features=in_order(*two_layers(), *two_layers())), "features.0 features.3"),
        (nn.ModuleDict({"body": in_order(Block(), Block())}), "body.0 body.1"),
    ],
)
def test_blocks_are_found(backbone, expected):
    assert " ".join(name for name, _ in find_blocks(backbone)) == expected


def test_depths_of_weights():
    backbone = Staged(blocks=nn.Sequential(Block(), Block()), norm=nn.BatchNorm2d(1))
    assert [*dict.fromkeys(compute_depths(backbone, find_blocks(backbone)).values())] == [0, 1, 2, 3]


def test_blocks_that_cannot_be_told_name_what_there_is():
    with pytest.raises(ConfigError, match=r"Staged has stem \(Conv2d\), branch \(Block\), and none of blocks, stages"):
        find_blocks(Staged(branch=Block()))


def test_a_mode_with_nothing_to_adapt_says_so():
    backbone = nn.ModuleDict({"layers": nn.Linear(3, 3, bias=False)})
    backbone.feature_dim = 3
    for mode in ("batchnorm", "bias"):
        with pytest.raises(ConfigError, match=f"mode '{mode}' has nothing to adapt"):
            create_method("finetune", backbone, mode=mode).count_trainable(WAY)


def test_the_menu_is_complete():
    assert set(MODES) == {*NUMBERS}
