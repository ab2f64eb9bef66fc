"""`fewshot list`: lists the registered methods, backbones or data sets."""

from fewshot.backbones import BACKBONES
from fewshot.config.reproduction import ListConfig
from fewshot.datasets import DATASETS
from fewshot.methods import METHODS

REGISTRIES = {"methods": METHODS, "backbones": BACKBONES, "datasets": DATASETS}
ALSO = {"backbones": "timm/NAME and torchvision/NAME: any model of these libraries"}


def run(config: ListConfig) -> None:
    """Print each registered name with one line that says what it is.

    Args:
        config: the options of the subcommand.
    """
    registry = REGISTRIES[config.kind]
    width = max(map(len, registry.names()))
    for name in registry.names():
        print(f"{name:{width}}  {registry.summary(name)}")
    if config.kind in ALSO:
        print(ALSO[config.kind])
