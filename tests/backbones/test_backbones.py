"""The contract of backbones, tested for every registered one; the networks are compared with the papers."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from fewshot.backbones import Backbone, create_backbone, list_backbones
from fewshot.backbones.resnet import drop_block
from fewshot.backbones.surgery.depthwise import restore_depthwise, train_depthwise_in_float32
from fewshot.errors import CheckpointError, ConfigError, FewShotError, UnknownNameError

PX = 32
SMALL = {  # the contract does not depend on the size
    "resnet12": {"channels": (8, 16, 24, 32)},
    "resnet12-wide": {"channels": (8, 16, 24, 32)},
    "resnet18": {"n_blocks": (1, 1, 1, 1)},
    "resnet34": {"n_blocks": (2, 1, 1, 1)},
    "wrn28-10": {"depth": 10, "widen": 1},
    "rrnet": {"n_filters": (8, 16, 24, 32)},
    "rrnet-small": {"n_filters": (8, 8, 8, 8)},
}


def make(name: str, in_channels: int = 3, seed: int = 0, **options: object) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = create_backbone(name, in_channels, PX, **(SMALL.get(name, {}) | options))
        randomise_norms(backbone)
    return backbone


def randomise_norms(module: nn.Module) -> None:
    """Set statistics, scales (some negative) and shifts to other values than in a new network."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight, 0.8, 0.5)
            nn.init.normal_(norm.bias, 0, 0.3)
            nn.init.normal_(norm.running_mean, 0, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)


def random_images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=list_backbones())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("in_channels", [1, 3])
def test_shapes_and_feature_dim(name: str, in_channels: int) -> None:
    backbone = make(name, in_channels).eval()
    images = random_images(3, in_channels, PX, PX)
    features, maps = backbone(images), backbone.feature_maps(images)
    assert features.shape == (3, backbone.feature_dim)
    assert features.dtype == torch.float32
    assert maps.shape[0] == 3
    assert maps.ndim == 4
    pooled = maps.flatten(1) if maps[0].numel() == backbone.feature_dim else maps.mean((2, 3))
    torch.testing.assert_close(features, pooled)
    assert (backbone.in_channels, backbone.input_px) == (in_channels, PX)
    assert len(backbone.mean) == len(backbone.std) == in_channels


def test_every_parameter_and_the_input_get_a_gradient(name: str) -> None:
    backbone = make(name).train()
    images = torch.randn(4, 3, PX, PX, requires_grad=True)
    features = backbone(images)
    (features * torch.randn_like(features)).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if parameter.ndim > 1:
            assert parameter.grad.abs().sum() > 0, key


def test_evaluation_is_deterministic_and_independent_of_batch_mates(name: str) -> None:
    backbone = make(name).eval()
    images = random_images(5, 3, PX, PX)
    with torch.no_grad():
        together, again = backbone(images), backbone(images)
        alone = torch.cat([backbone(image[None]) for image in images])
    assert torch.equal(together, again)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4 * float(together.abs().max()))


@pytest.mark.parametrize("in_channels", [1, 3])
def test_uint8_images_are_normalised_as_by_hand(name: str, in_channels: int) -> None:
    backbone = make(name, in_channels).eval()
    images = random_images(2, in_channels, PX, PX)
    mean, std = np.array(backbone.mean)[:, None, None], np.array(backbone.std)[:, None, None]
    by_hand = torch.from_numpy((images.numpy() / 255 - mean) / std).float()
    torch.testing.assert_close(backbone.prepare(images), by_hand, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), backbone(by_hand), rtol=1e-3, atol=1e-4)


def test_bfloat16_autocast_is_close(name: str) -> None:
    backbone = make(name).eval()
    images = random_images(4, 3, PX, PX)
    with torch.no_grad():
        exact = backbone(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = backbone(images)
    assert F.cosine_similarity(exact, rough.float()).min() > 0.99


@pytest.mark.parametrize("kind", [nn.Conv2d, pytest.param("conv2d_same", id="same padding")])
def test_depthwise_convolutions_train_in_float32_under_autocast(kind: type[nn.Conv2d] | str) -> None:
    if kind == "conv2d_same":
        kind = pytest.importorskip("timm.layers").Conv2dSame
    plain = kind(6, 6, 5, stride=2, padding=2, groups=6)
    network = nn.Sequential(copy.deepcopy(plain), kind(6, 4, 1), kind(6, 6, 3, groups=2))
    train_depthwise_in_float32(network)
    assert [type(layer) is kind for layer in network] == [False, True, True]
    maps = random_images(2, 6, 11, 11).bfloat16()

    def gradient(layer: nn.Module, maps: Tensor) -> tuple[Tensor, ...]:
        outputs = layer(maps.requires_grad_())
        upstream = torch.linspace(-1, 1, outputs.numel()).view_as(outputs).bfloat16()
        return outputs, *torch.autograd.grad(outputs, [layer.weight, maps], upstream.to(outputs))

    expected = gradient(plain, maps.float())  # all in float32
    for layer in (network[0], copy.deepcopy(network)[0], pickle.loads(pickle.dumps(network))[0]):
        with torch.autocast("cpu", torch.bfloat16):
            outputs, of_weight, of_maps = gradient(layer, maps)
            with torch.no_grad():
                assert torch.equal(layer(maps), plain(maps))  # bfloat16 as ever
        assert torch.equal(outputs, expected[0].bfloat16())
        assert torch.equal(of_weight, expected[1])
        assert torch.equal(of_maps, expected[2].bfloat16())
        assert torch.equal(layer(maps.float()), plain(maps.float()))  # nor does anything change without autocast
    restore_depthwise(network)
    assert all(type(layer) is kind for layer in network)


def test_channels_last_changes_nothing_but_the_layout(name: str) -> None:
    backbone = make(name).eval()
    images = random_images(4, 3, PX, PX)
    with torch.no_grad():
        before = backbone(images)
        backbone.to(memory_format=torch.channels_last)
        after, prepared = backbone(images), backbone.prepare(images)
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
    has_weights = any(p.ndim == 4 for p in backbone.parameters())
    assert prepared.is_contiguous(memory_format=torch.channels_last) == has_weights


def test_weights_go_round_through_a_file(name: str, tmp_path) -> None:
    source, path = make(name, seed=1).eval(), tmp_path / "backbone.safetensors"
    save_file(source.state_dict() or {"none": torch.zeros(1)}, path)
    if name == "pixels":  # has no weights: any are too many
        with pytest.raises(CheckpointError, match="1 unexpected"):
            create_backbone(name, 3, PX, weights=path)
        return
    loaded = create_backbone(name, 3, PX, weights=path, **SMALL.get(name, {})).eval()
    prepared = torch.randn(2, 3, PX, PX)
    with torch.no_grad():
        assert torch.equal(loaded(prepared), source(prepared))


def test_normalisation_is_no_weight(name: str) -> None:
    assert not [key for key in make(name).state_dict() if not key.startswith("body.")]


def test_construction_leaves_the_body_as_it_was() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4)).eval())
    backbone = Backbone(body, 3, 9, pooling="mean", mean=(0.5,) * 3, std=(0.5,) * 3)
    assert (body.training, body[1].training) == (True, False)
    assert int(body[1][0].num_batches_tracked) == 0
    assert (backbone.feature_dim, backbone.mean) == (4, (0.5,) * 3)


# How images are prepared


def test_grey_images_are_repeated_to_three_channels() -> None:
    backbone = make("conv4")
    grey = random_images(2, 1, PX, PX)
    assert torch.equal(backbone.prepare(grey), backbone.prepare(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("size", [(80, 80), (20, 50)])
def test_other_sizes_are_resized_with_antialiasing(size: tuple[int, int]) -> None:
    images = random_images(1, 1, *size)
    pillow = Image.fromarray(images[0, 0].numpy().astype(np.float32)).resize((PX, PX), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.array(pillow))[None, None] / 255
    torch.testing.assert_close(make("conv4", 1).prepare(images), expected, rtol=1e-4, atol=1e-4)


def test_default_normalisation() -> None:
    assert (make("conv4", 1).mean, make("conv4", 1).std) == ((0.0,), (1.0,))
    assert make("conv4", 3).mean == (0.485, 0.456, 0.406)
    assert make("conv4", 3).std == (0.229, 0.224, 0.225)
    assert make("conv4", 4).mean == (0.0,) * 4
    images = random_images(2, 3, PX, PX)
    assert torch.equal(make("pixels")(images), (images.float() / 255).flatten(1))


@pytest.mark.parametrize("of_both", [list, tuple])
def test_normalisation_is_an_option(name: str, of_both: type) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    images = random_images(2, 3, PX, PX)
    given = make(name, mean=of_both(mean), std=of_both(std))
    assert (given.mean, given.std) == (mean, std)
    by_hand = (images.double() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(given.prepare(images), by_hand.float(), rtol=1e-5, atol=1e-6)
    assert make(name, mean=mean).std == make(name).std
    assert make(name, std=std).mean == make(name).mean
    assert given.extra_repr() != make(name).extra_repr()  # which tells stored features apart


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (random_images(2, 3, PX, PX), "3 channels.* takes 1"),
        (random_images(1, PX, PX), r"\(1, 32, 32\)"),
        (torch.zeros(2, 1, PX, PX, dtype=torch.int64), "int64"),
        (torch.zeros(2, 1, PX, 30), r"\(2, 1, 32, 30\)"),
        (torch.zeros(2, 3, PX, PX), r"\(1, 32, 32\).*\(2, 3, 32, 32\)"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_the_numbers(images: Tensor, words: str) -> None:
    with pytest.raises(FewShotError, match=words):
        make("conv4", 1)(images)


# Weights from files


@pytest.mark.parametrize("saved", ["body.safetensors", "body.pth", "nested.pt"])
def test_weights_are_found_in_files_of_other_forms(saved: str, tmp_path) -> None:
    source, path = make("conv4", seed=1).eval(), tmp_path / saved
    if "nested" in saved:
        wrapped = {f"module.backbone.{key}": tensor for key, tensor in source.state_dict().items()}
        torch.save({"state_dict": wrapped | {"module.head.scale": torch.ones(1)}, "epoch": 3}, path)
    else:
        (save_file if path.suffix == ".safetensors" else torch.save)(source.body.state_dict(), path)
    images = random_images(2, 3, PX, PX)
    with torch.no_grad():
        assert torch.equal(create_backbone("conv4", 3, PX, weights=path).eval()(images), source(images))


# What cannot be made


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (UnknownNameError, "'resnet12'", {"name": "resnet-12"}),
        (UnknownNameError, r"family 'tim'.*timm", {"name": "tim/resnet18"}),
        (UnknownNameError, "'detph'.*'depth'", {"name": "conv4", "detph": 3}),
        (ConfigError, "no published weights", {"name": "conv4", "pretrained": True}),
        (ConfigError, "not both", {"name": "conv4", "pretrained": True, "weights": "a.pth"}),
        (ConfigError, r"15 x 15.*4 blocks", {"name": "conv4", "input_px": 15}),
        (ConfigError, "15 px", {"name": "resnet12", "input_px": 15}),
        (ConfigError, "drop_rate", {"name": "resnet12", "drop_rate": 1.0}),
        (ConfigError, "stem", {"name": "resnet18", "stem": "tiny"}),
        (ConfigError, "27", {"name": "wrn28-10", "depth": 27}),
        (ConfigError, "16 x 16.* 15", {"name": "rrnet", "input_px": 15}),
        (ConfigError, r"four blocks.* 3 numbers: \(8, 8, 8\)", {"name": "rrnet", "n_filters": (8, 8, 8)}),
        (ConfigError, "mean has 2 numbers for 3 channels", {"name": "conv4", "mean": [0.5, 0.5]}),
        (ConfigError, r"std is positive.*\(1.0, 0.0, 1.0\)", {"name": "conv4", "std": [1.0, 0.0, 1.0]}),
    ],
)
def test_what_cannot_be_made_says_why(error: type[Exception], words: str, arguments: dict) -> None:
    with pytest.raises(error, match=words):
        create_backbone(**arguments)


def test_a_body_of_maps_needs_a_pooling_and_one_of_features_has_no_maps() -> None:
    convolution = nn.Conv2d(3, 4, 3)
    with pytest.raises(ConfigError, match=r"pooling None.*\(1, 4, 6, 6\)"):
        Backbone(convolution, 3, 8)
    with pytest.raises(ConfigError, match="pooling 'max'"):
        Backbone(convolution, 3, 8, pooling="max")
    with pytest.raises(ConfigError, match="2 numbers for 3 channels"):
        Backbone(convolution, 3, 8, pooling="mean", mean=(0.0, 0.0))
    with pytest.raises(ConfigError, match=r"\(3, 2, 2\)"):
        Backbone(convolution, 3, 2, pooling="mean")
    pools_itself = Backbone(nn.Sequential(convolution, nn.Flatten()), 3, 8)
    assert pools_itself.feature_dim == 4 * 6 * 6
    with pytest.raises(FewShotError, match=r"no feature maps.*144"):
        pools_itself.feature_maps(random_images(1, 3, 8, 8))


class Exploit:
    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "was_here"
    torch.save({"state_dict": make("conv4").state_dict(), "extra": Exploit(trace)}, path)
    with pytest.raises(CheckpointError, match=r"weights.pth.*more than weights"):
        create_backbone("conv4", 3, PX, weights=path)
    assert not trace.exists()
    torch.load(path, weights_only=False)["extra"].close()  # the file is dangerous indeed
    assert trace.exists()


def test_weights_that_do_not_fit_are_refused(tmp_path) -> None:
    path = tmp_path / "a.safetensors"

    def refused(words: str, **arguments: object) -> None:
        with pytest.raises(CheckpointError, match=words):
            create_backbone(**({"name": "conv4", "input_px": PX, "weights": path} | arguments))

    refused("there is no weights file .*a.safetensors")
    state = make("conv4").body.state_dict()
    save_file(state, path)
    # two blocks of 2 + 4 tensors; the counts of batches are not needed
    refused(r"10 missing \(blocks.4.0.weight.*…\), 0 unexpected", name="conv6")
    refused("size mismatch", in_channels=1)
    save_file(state | {"blocks.0.9.scale": torch.ones(1)}, path)
    refused(r"0 missing, 1 unexpected \(blocks.0.9.scale\)")
    save_file({f"{who}.{k}": v.clone() for who in ("student", "teacher") for k, v in state.items()}, path)
    refused("'student.' and 'teacher.'")
    path.write_bytes(path.read_bytes()[:100])
    refused("no readable weights")
    torch.save([1, 2], tmp_path / "list.pt")
    refused("no named tensors, but list", weights=tmp_path / "list.pt")
    (tmp_path / "a.bin").write_bytes(b"")
    refused("from .safetensors, .pth or .pt", weights=tmp_path / "a.bin")


# The networks of the papers


@pytest.mark.parametrize(
    ("name", "input_px", "maps", "feature_dim"),
    [
        ("conv4", 28, (64, 1, 1), 64),
        ("conv4", 84, (64, 5, 5), 1600),
        ("conv4-32", 84, (32, 5, 5), 800),
        ("conv6", 84, (64, 5, 5), 1600),
        ("conv4-relation", 28, (64, 5, 5), 1600),
        ("conv4-relation", 84, (64, 19, 19), 23104),
        ("conv4-strided", 28, (64, 2, 2), 64),
        ("resnet12", 84, (512, 5, 5), 512),
        ("resnet12-wide", 84, (640, 5, 5), 640),
        ("resnet10", 224, (512, 7, 7), 512),
        ("resnet18", 84, (512, 3, 3), 512),
        # side 28 -> 14 -> 7 -> 3, 32 -> 4 and 84 -> 10, then one less; channels 384 + 512 and 64 + 64. The products are
        # those of the authors' scripts/train/train.py, such as 31104 + 41472 at 84 px.
        ("rrnet", 28, (896, 2, 2), 1536 + 2048),
        ("rrnet", 32, (896, 3, 3), 3456 + 4608),
        ("rrnet", 84, (896, 9, 9), 31104 + 41472),
        ("rrnet", 16, (896, 1, 1), 384 + 512),
        ("rrnet-small", 28, (128, 2, 2), 256 * 2),
        ("rrnet-small", 32, (128, 3, 3), 576 * 2),
        ("rrnet-small", 84, (128, 9, 9), 5184 * 2),
    ],
)
def test_sizes_of_the_papers(name: str, input_px: int, maps: tuple[int, ...], feature_dim: int) -> None:
    backbone = create_backbone(name, 3, input_px).eval()
    with torch.no_grad():
        assert backbone.feature_maps(random_images(1, 3, input_px, input_px)).shape[1:] == maps
    assert backbone.feature_dim == feature_dim


def conv_norm(in_channels: int, channels: int, kernel: int) -> int:
    """Number of parameters of a convolution and its batch normalisation."""
    return channels * in_channels * kernel**2 + 2 * channels


def resnet12_parameters(channels: list[int]) -> int:
    pairs = zip([3, *channels], channels, strict=False)
    return sum(conv_norm(a, b, 3) + 2 * conv_norm(b, b, 3) + conv_norm(a, b, 1) for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "in_channels", "expected"),
    [
        ("conv4", 1, 64 * 9 + 128 + 3 * (64 * 64 * 9 + 128)),
        ("conv4-strided", 1, 64 * 9 + 128 + 3 * (64 * 64 * 9 + 128)),
        ("conv4-32", 3, conv_norm(3, 32, 3) + 3 * conv_norm(32, 32, 3)),
        ("conv6", 3, conv_norm(3, 64, 3) + 5 * conv_norm(64, 64, 3)),
        ("resnet12", 3, resnet12_parameters([64, 128, 256, 512])),
        ("resnet12-wide", 3, resnet12_parameters([64, 160, 320, 640])),
        ("resnet18", 3, 11_689_512 - 513_000),  # torchvision's published count, less the classifier
        ("resnet34", 3, 21_797_672 - 513_000),
        ("wrn28-10", 3, 36_479_194 - 6_410),  # the published count on CIFAR-10, less the classifier
        ("pixels", 3, 0),
        ("rrnet", 3, sum(conv_norm(a, b, 3) for a, b in ((3, 96), (96, 192), (192, 384), (384, 512)))),
        ("rrnet-small", 1, conv_norm(1, 64, 3) + 3 * conv_norm(64, 64, 3)),
    ],
)
def test_parameter_counts(name: str, in_channels: int, expected: int) -> None:
    backbone = create_backbone(name, in_channels, PX)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == expected


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["conv4", "conv6"])
def test_pooling_before_relu_is_the_order_of_the_papers(name: str, training: bool) -> None:
    backbone = make(name).train(training)
    images = torch.randn(4, 3, PX, PX)
    expected = images
    for i, (convolution, norm, *_) in enumerate(backbone.body.blocks):
        expected = F.conv2d(expected, convolution.weight, padding=1)
        statistics = (None, None) if training else (norm.running_mean, norm.running_var)
        expected = F.relu(F.batch_norm(expected, *statistics, norm.weight, norm.bias, training))
        expected = F.max_pool2d(expected, 2) if i < 4 else expected
    torch.testing.assert_close(backbone(images), expected.flatten(1))


def test_resnet12_is_the_network_of_meta_baseline() -> None:
    backbone = make("resnet12", channels=(4, 6, 8, 10)).eval()
    images = torch.randn(2, 3, PX, PX)
    expected = images
    for block in backbone.body.blocks:
        conv1, norm1, _, conv2, norm2, _, conv3, norm3 = block.layers
        out = F.leaky_relu(norm1(conv1(expected)), 0.1)
        out = F.leaky_relu(norm2(conv2(out)), 0.1)
        expected = F.max_pool2d(F.leaky_relu(norm3(conv3(out)) + block.shortcut(expected), 0.1), 2)
    torch.testing.assert_close(backbone(images), expected.mean((2, 3)))


@pytest.mark.parametrize("folding", [True, False])
def test_rrnet_is_the_network_of_its_authors(folding: bool) -> None:
    """Features of block 3, pooled once more with stride 1, before those of block 4, as their code flattens them."""
    backbone = make("rrnet", n_filters=(4, 6, 8, 10)).eval()
    maps = images = torch.randn(2, 3, PX, PX)
    each = []
    for i, (convolution, norm, *_) in enumerate(backbone.body.blocks):
        maps = F.conv2d(maps, convolution.weight, padding=1)
        maps = F.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        maps = F.leaky_relu(F.max_pool2d(maps, 2, stride=2 if i < 3 else 1), 0.1)
        each.append(maps)
    expected = torch.cat([F.max_pool2d(each[2], 2, stride=1).flatten(1), each[3].flatten(1)], 1)
    assert expected.shape == (2, (8 + 10) * 3 * 3)
    with torch.set_grad_enabled(not folding):
        torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-5)


def test_the_epsilon_of_batch_normalisation_is_an_option() -> None:
    for name, eps in (("conv4", 1e-5), ("conv4-strided", 1e-3)):
        backbone = make(name, norm_eps=eps)
        norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        assert [norm.eps for norm in norms] == [eps] * 4
    assert all(m.eps == 1e-5 for m in make("conv4-strided").modules() if isinstance(m, nn.BatchNorm2d))


def test_resnet18_is_torchvisions_and_small_images_keep_their_resolution() -> None:
    from torchvision.models import resnet18

    backbone, reference = make("resnet18", n_blocks=(2, 2, 2, 2)).eval(), resnet18(num_classes=1).eval()
    reference.fc = nn.Identity()
    reference.load_state_dict(backbone.body.state_dict())
    images = torch.randn(2, 3, PX, PX)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), reference(images))
        assert make("resnet10", stem="small").eval().feature_maps(images).shape == (2, 512, 4, 4)


def test_initial_convolutions_have_the_variance_of_the_papers() -> None:
    for name in ("resnet12", "resnet10", "wrn28-10"):
        for convolution in create_backbone(name, 3, PX, **SMALL.get(name, {})).modules():
            if isinstance(convolution, nn.Conv2d) and convolution.weight.numel() > 20_000:
                fan_out = convolution.out_channels * convolution.kernel_size[0] ** 2
                torch.testing.assert_close(convolution.weight.var() * fan_out, torch.tensor(2.0), rtol=0.05, atol=0)


def test_wide_resnet_by_hand() -> None:
    backbone = make("wrn28-10").eval()
    body, images = backbone.body, torch.randn(2, 3, PX, PX)
    x = body.stem(images)
    for stride, block in zip([1, 2, 2], body.blocks, strict=True):
        a = F.relu(block.norm1(x))
        b = F.relu(block.norm2(F.conv2d(a, block.conv1.weight, stride=stride, padding=1)))
        shortcut = x if block.shortcut is None else F.conv2d(a, block.shortcut.weight, stride=stride)
        x = F.conv2d(b, block.conv2.weight, padding=1) + shortcut
    assert x.shape == (2, 64, 8, 8)
    torch.testing.assert_close(backbone(images), F.relu(body.norm(x)).mean((2, 3)))


# Dropout


@pytest.mark.parametrize(("side", "block_px"), [(11, 5), (12, 4), (5, 5), (3, 5), (7, 1)])
def test_drop_block_drops_whole_squares_at_about_its_rate(side: int, block_px: int) -> None:
    torch.manual_seed(0)
    out = drop_block(torch.ones(100, 60, side, side), 0.1, block_px)
    dropped = out == 0
    block = min(block_px, side)
    squares = dropped.float().unfold(2, block, 1).unfold(3, block, 1).amin((4, 5))  # 1: a whole square is dropped
    covered = F.conv_transpose2d(squares.flatten(0, 1)[:, None], torch.ones(1, 1, block, block)) > 0
    assert torch.equal(covered.view_as(dropped), dropped)
    assert 0.075 < dropped.float().mean() < 0.105  # squares may overlap: somewhat less than the rate
    assert not torch.equal(dropped[:, 0], dropped[:, 1])
    assert torch.isclose(out.mean(), torch.tensor(1.0), atol=1e-4)
    kept = out[~dropped]
    assert torch.equal(kept, kept[:1].expand_as(kept))


def test_drop_block_does_not_overflow_in_half_precision() -> None:
    out = drop_block(torch.ones(64, 64, 10, 10, dtype=torch.float16), 0.1, 5)
    assert out.dtype == torch.float16
    assert torch.isclose(out.float().mean(), torch.tensor(1.0), atol=1e-2)


@pytest.mark.parametrize("name", ["resnet12-wide", "wrn28-10", "rrnet"])
def test_dropout_is_drawn_in_training_from_the_global_generator(name: str) -> None:
    backbone, images = make(name, drop_rate=0.1), torch.randn(4, 3, PX, PX)

    def features(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return backbone(images)

    assert torch.equal(features(0), features(0))
    assert not torch.equal(features(0), features(1))
    backbone.eval()
    assert torch.equal(features(0), features(1))
    without = make(name, drop_rate=0.0)
    assert torch.equal(without(images), without(images))


# Use by others


@pytest.mark.parametrize("name", ["conv4", "conv4-strided", "resnet12-wide", "rrnet"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_weights_of_several_episodes_at_once(name: str, layout: torch.memory_format) -> None:
    backbone = make(name).eval().to(memory_format=layout)
    images = random_images(3, 2, 3, PX, PX)
    weights = [{k: v.detach() for k, v in make(name, seed=s).named_parameters()} for s in range(3)]
    stacked = {key: torch.stack([w[key] for w in weights]) for key in weights[0]}
    at_once = vmap(lambda w, x: functional_call(backbone, w, (x,)))(stacked, images)
    one_by_one = torch.stack([functional_call(backbone, w, (x,)) for w, x in zip(weights, images, strict=True)])
    torch.testing.assert_close(at_once, one_by_one, rtol=1e-3, atol=1e-4)


def test_the_large_wide_resnet_runs() -> None:
    backbone = create_backbone("wrn28-10", 3, PX).eval()
    with torch.no_grad():
        assert backbone(random_images(1, 3, PX, PX)).isfinite().all()
    assert backbone.feature_dim == 640


def test_importing_backbones_imports_no_model_library() -> None:
    code = "import sys, fewshot.backbones; print({'timm', 'torchvision'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_folded_normalisation_is_the_same_function() -> None:
    backbone = create_backbone("conv4", 1, PX)
    generator = torch.Generator().manual_seed(0)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                tensor.data.uniform_(-1, 1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    images = torch.rand(5, 1, PX, PX, generator=generator)
    backbone.eval()
    plain = backbone(images).detach()
    with torch.no_grad():
        folded = backbone(images)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)
    assert not torch.equal(folded, plain)  # or nothing was folded


def test_a_float64_backbone_prepares_images_in_float64():
    backbone = create_backbone("conv4", 3, 16, mean=(0.5, 0.25, 0.125), std=(0.5, 0.5, 0.25)).double()
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in ((0.5, 0.25, 0.125), (0.5, 0.5, 0.25))
    )
    expected = (torch.arange(256, dtype=torch.float64).view(16, 16) / 255 - mean) / std
    prepared = backbone.prepare(images)
    assert prepared.dtype == torch.float64
    assert (prepared - expected).abs().max() < 1e-15  # float32 is off by 2e-8
