"""timm's networks: refused options, and image sizes that patches do not divide."""

import pytest

from fewshot import create_backbone
from fewshot.errors import ConfigError, FewShotError


@pytest.mark.parametrize(("side", "nearest"), [(222, "208 or 224"), (84, "80 or 96"), (10, "16 px")])
def test_patches_divide_the_image(side, nearest):
    with pytest.raises(ConfigError, match=f"patches of 16 px, which do not divide {side} px.*use {nearest}"):
        create_backbone("timm/vit_tiny_patch16_224", 3, side, depth=1)


def test_a_size_that_patches_divide_is_taken():
    assert create_backbone("timm/vit_tiny_patch16_224", 3, 96, depth=1).input_px == 96


@pytest.mark.parametrize("option", ["features_only", "num_classes", "checkpoint_path"])
def test_what_makes_something_else_of_a_network(option):
    with pytest.raises(FewShotError, match=option):
        create_backbone("timm/test_resnet", 3, 64, **{option: 1})
