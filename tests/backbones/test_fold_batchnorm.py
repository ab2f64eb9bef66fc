"""Folding batch normalisation keeps the features, and does not change the original network."""

import pytest
import torch
from torch import nn

from fewshot import FewShotClassifier, create_backbone
from fewshot.backbones.surgery.fold_batchnorm import fold_batchnorm
from fewshot.runtime import seeding

IMAGES = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=seeding.generator(0, "images"))


def unsettled(module: nn.Module) -> nn.Module:
    """Set statistics and affine parameters to other values than 0 and 1, as after training."""
    draw = seeding.generator(0, "statistics")
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3, generator=draw)
            layer.running_var.uniform_(0.5, 2.0, generator=draw)
            nn.init.normal_(layer.weight, 1.0, 0.2, generator=draw)
            nn.init.normal_(layer.bias, 0.0, 0.2, generator=draw)
    return module.eval()


def count(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("resnet12", 16, 0), ("timm/tf_efficientnet_lite0", 49, 0), ("timm/resnet10t", 14, 0),
     ("timm/densenet121", 121, 62)],  # in which some normalisations take what several layers gave
)  # fmt: skip
@torch.no_grad()
def test_features_stay(name, before, after):
    backbone = unsettled(create_backbone(name, 3, 64))
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    fast = fold_batchnorm(backbone, IMAGES[:1])
    assert (count(backbone), count(fast)) == (before, after)
    features = backbone(IMAGES)
    torch.testing.assert_close(fast(IMAGES), features, atol=1e-4 * features.norm().item(), rtol=0)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


class Twice(nn.Module):
    """One convolution is followed by two normalisations, and the output of another is used elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.second, self.c = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.first(images.float() / 255)
        y = self.second(self.a(x) + self.b(x))
        return (self.c(y) + y).mean((2, 3))


@torch.no_grad()
def test_what_cannot_be_folded_stays_itself(caplog):
    plain = nn.Flatten().eval()
    assert fold_batchnorm(plain, IMAGES) is plain
    module = unsettled(Twice())
    assert fold_batchnorm(module, IMAGES) is module
    assert "not folded" in caplog.text
    training = create_backbone("resnet12", 3, 64).train()
    assert fold_batchnorm(training, IMAGES) is training


def test_the_estimator_uses_it_and_keeps_its_own(tmp_path):
    options = {"backbone": "resnet12", "pretrained": False, "size_px": 32, "precision": "float32"}
    images = IMAGES.repeat_interleave(2, 0)
    classifier = FewShotClassifier(**options).fit(images, list("aabbccdd"))
    encoder = classifier.encoder_
    assert (count(encoder.method), count(encoder.network)) == (16, 0)
    assert encoder.network.backbone is not encoder.method.backbone
    classifier.save(tmp_path / "c.fewshot")
    again = FewShotClassifier.load(tmp_path / "c.fewshot")
    assert count(again.encoder_.method) == 16
    assert again.predict(images).tolist() == classifier.predict(images).tolist()
