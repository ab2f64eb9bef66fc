"""Find the blocks of any backbone, which the modes partial and adapter and the option layer_decay count."""

import re

from torch import nn

from fewshot.errors import ConfigError

# Names of children that contain the blocks or stages of our networks, timm's and torchvision's
CONTAINERS = ("blocks", "stages", "layers", "features", "encoder", "trunk_output")
NUMBERED = re.compile(r"(layer|stage|stages_|block|s)\d+")  # layer1 … layer4, stages_0 …, s1 …
LISTS = (nn.Sequential, nn.ModuleList)

Block = tuple[str, nn.Module]


def find_blocks(backbone: nn.Module) -> list[Block]:
    """List the blocks in order, each with its dotted name.

    The search descends through modules with a single child to a module whose children have names as in `CONTAINERS` or
    `NUMBERED`. Stages (plain lists, or modules with a list `blocks`) are replaced by their blocks. Raises
    `ConfigError`, which says what was found instead, if there is no such module.
    """
    name, module = "", backbone
    while True:
        found = _find_below(name, module)
        if found:
            return found
        children = [(child, part) for child, part in module.named_children() if _has_weights(part)]
        if len(children) != 1:
            here = f"{type(module).__name__} {name!r}" if name else type(module).__name__
            parts = ", ".join(f"{child} ({type(part).__name__})" for child, part in children) or "no part with weights"
            raise ConfigError(
                f"finetune cannot find the blocks of this backbone: {here} has {parts}, "
                f"and none of {', '.join(CONTAINERS)}, layer1 …"
            )
        name, module = _join(name, children[0][0]), children[0][1]


def compute_depths(backbone: nn.Module, blocks: list[Block]) -> dict[str, int]:
    """Number the weights by depth: 0 before the first block, i within and after block i, n + 1 after the last of n.

    "Before" and "after" mean the order in which the network lists its weights. `blocks`: from `find_blocks`.
    """
    depth, found = 0, {}
    for name, _ in backbone.named_parameters():
        inside = [i for i, (block, _) in enumerate(blocks, 1) if name.startswith(f"{block}.")]
        if inside:
            depth = inside[0]
        elif depth == len(blocks):
            depth += 1
        found[name] = depth
    return found


def _find_below(name: str, module: nn.Module) -> list[Block]:
    """Find blocks among the children of `module` by their names; [] if there are none."""
    if type(module) in LISTS and not _list_numbered(module):
        return _take_apart(name, module)
    for container in CONTAINERS:
        part = getattr(module, container, None)
        if isinstance(part, nn.Module) and _has_weights(part):
            inner = _join(name, container)
            return _take_apart(inner, part) if type(part) in LISTS else _find_below(inner, part)
    return [
        block for child in _list_numbered(module) for block in _take_apart(_join(name, child), getattr(module, child))
    ]


def _list_numbered(module: nn.Module) -> list[str]:
    names = [name for name, _ in module.named_children() if NUMBERED.fullmatch(name)]
    return names if len(names) > 1 else []


def _take_apart(name: str, module: nn.Module) -> list[Block]:
    """List the blocks in a list or in a stage with a list `blocks`; any other module is a block itself.

    In a list that mixes blocks and single layers only the blocks count; in a list of layers, those with a matrix.
    """
    inner = getattr(module, "blocks", None)
    if type(inner) in LISTS and _has_weights(inner):
        return _take_apart(_join(name, "blocks"), inner)
    if type(module) not in LISTS:
        return [(name, module)]
    parts = [(_join(name, child), part) for child, part in module.named_children() if _has_weights(part)]
    composite = [(child, part) for child, part in parts if any(map(_has_weights, part.children()))]
    if composite:
        return [block for part in composite for block in _take_apart(*part)]
    return [part for part in parts if any(p.ndim > 1 for p in part[1].parameters())]


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _join(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child
