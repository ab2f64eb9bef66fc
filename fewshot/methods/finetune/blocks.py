"""The blocks of any backbone, from its first to its last: what `partial`, `adapter` and `layer_decay` count in."""

import re

from torch import nn

from fewshot.errors import ConfigError

# Children that hold a network's blocks or stages, in our networks, timm's and torchvision's
CONTAINERS = ("blocks", "stages", "layers", "features", "encoder", "trunk_output")
NUMBERED = re.compile(r"(layer|stage|stages_|block|s)\d+")  # layer1 … layer4, stages_0 …, s1 …
LISTS = (nn.Sequential, nn.ModuleList)

Block = tuple[str, nn.Module]


def find_blocks(backbone: nn.Module) -> list[Block]:
    """Dotted names and modules of the blocks, in their order.

    The search goes inwards through modules with one child only, to one that has children called as in
    `CONTAINERS` or numbered as in `NUMBERED`; stages (plain lists, or modules with a list `blocks`) are taken
    apart. Raises `ConfigError`, with what was found, where there is none of these.
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
                f"finetune cannot tell what the blocks of this backbone are: {here} has {parts}, "
                f"and none of {', '.join(CONTAINERS)}, layer1 …"
            )
        name, module = _join(name, children[0][0]), children[0][1]


def compute_depths(backbone: nn.Module, blocks: list[Block]) -> dict[str, int]:
    """Of each weight by name: 0 before the first block, i in and after the i-th, n + 1 after the last of n.

    Before and after as in the order in which a network lists its weights. `blocks`: from `find_blocks`.
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
    """Blocks in the children of `module` that can be told by their names; or none."""
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
    """The blocks of a list, of a stage with a list `blocks`, or the module itself.

    Of a list that mixes blocks and single layers the blocks count; of one of layers those with a matrix.
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
