"""Backbones, which map images to features; importing this package registers them."""

from fewshot.backbones import convnet as convnet
from fewshot.backbones import lite as lite
from fewshot.backbones import pixels as pixels
from fewshot.backbones import resnet as resnet
from fewshot.backbones import rrnet as rrnet
from fewshot.backbones import timm_models as timm_models
from fewshot.backbones import torchvision_models as torchvision_models
from fewshot.backbones import wide_resnet as wide_resnet
from fewshot.backbones.base import BACKBONES, Backbone
from fewshot.backbones.create import create_backbone, list_backbones
from fewshot.backbones.viewed import Viewed

__all__ = ["BACKBONES", "Backbone", "Viewed", "create_backbone", "list_backbones"]
