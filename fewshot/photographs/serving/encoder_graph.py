"""What makes features of pixels, written as ONNX: `encoder.onnx`, with weights of 32 bits or of 8."""

import copy
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewshot.backbones import Viewed
from fewshot.errors import ConfigError
from fewshot.methods import Method
from fewshot.runtime import seeding

OPSET = 20
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
MIN_QUANTISED = 256  # numbers of a weight; smaller ones stay as they are


class _Features(nn.Module):
    """Pixels (n, C, side, side) uint8 to features (n, D), by a method's `encode`."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        backbone = self.method.backbone
        return backbone.forward_at_once(images) if isinstance(backbone, Viewed) else self.method.encode(images)


def make_feature_graph(network: Method) -> nn.Module:
    """What is exported of a method that works from features; a copy on the CPU."""
    return _Features(copy.deepcopy(network).cpu().eval())


def check_packages() -> None:
    """Raise `ConfigError` where what writes ONNX is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"export needs {', '.join(missing)}: pip install 'fewshot[export]'")


def write_encoder(graph: nn.Module, channels: int, size_px: int, path: Path) -> None:
    """Write `graph`, from uint8 pixels (n, channels, size_px, size_px), with any number n of images."""
    check_packages()
    shape = (2, channels, size_px, size_px)
    example = torch.randint(256, shape, dtype=torch.uint8, generator=seeding.generator(0, "an image to export by"))
    for parameter in graph.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's exporter, about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph, (example,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("n")},), opset_version=OPSET,
            input_names=["images"], output_names=["features"], custom_translation_table=_translate(), verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False)
    _tidy(path)


def _tidy(path: Path) -> None:
    """Keep equal tensors once, and nothing of where the graph was traced."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    first: dict[tuple[Any, ...], str] = {}
    names: dict[str, str] = {}
    for tensor in list(graph.initializer):
        key = (tensor.data_type, *tensor.dims, tensor.raw_data)
        names[tensor.name] = first.setdefault(key, tensor.name)
        if names[tensor.name] != tensor.name:
            graph.initializer.remove(tensor)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.doc_string = ""
        del node.metadata_props[:]
    for part in (*graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:], model.functions[:]
    onnx.save(model, path)


def _translate() -> dict[Any, Any]:
    """What ONNX has no word for: 3 x 3 equations, which circles are fitted by, and medians."""
    import onnxscript

    op: Any = onnxscript.opset20

    def constant(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    def cross(u: Any, v: Any) -> Any:
        first, second = constant(1, 2, 0), constant(2, 0, 1)
        return op.Sub(
            op.Mul(op.Gather(u, first, axis=-1), op.Gather(v, second, axis=-1)),
            op.Mul(op.Gather(u, second, axis=-1), op.Gather(v, first, axis=-1)),
        )

    def solve(a: Any, b: Any, left: bool = True, check_errors: bool = False) -> Any:
        """By Cramer's rule, of a (n, 3, 3) and b (n, 3, 1)."""
        if a.shape[-1] != 3 or b.shape[-1] != 1:
            raise ConfigError(f"only equations of three unknowns can be exported, not {a.shape} and {b.shape}")
        rows = [op.Squeeze(row, constant(-2)) for row in op.Split(a, num_outputs=3, axis=-2)]
        right = [op.Squeeze(part, constant(-1)) for part in op.Split(b, num_outputs=3, axis=-2)]
        columns = [cross(rows[1], rows[2]), cross(rows[2], rows[0]), cross(rows[0], rows[1])]
        total = op.Add(op.Mul(columns[0], right[0]), op.Add(op.Mul(columns[1], right[1]), op.Mul(columns[2], right[2])))
        found = op.Div(total, op.ReduceSum(op.Mul(rows[0], columns[0]), constant(-1), keepdims=1))
        whole = op.Cast(b, to=6)  # of the shapes of pivots and check, which nobody asks for
        return (
            op.Unsqueeze(found, constant(-1)),
            a,
            op.Squeeze(whole, constant(-1)),
            op.ReduceSum(whole, constant(-2, -1), keepdims=0),
        )

    def median(x: Any, dim: int, keepdim: bool = False) -> Any:
        """The lower of two middle values, as torch takes it."""
        middle = (int(x.shape[dim]) - 1) // 2
        values, places = op.TopK(x, constant(middle + 1), axis=dim, largest=0, sorted=1)
        found = [op.Gather(part, constant(middle), axis=dim) for part in (values, places)]
        return tuple(part if keepdim else op.Squeeze(part, constant(dim)) for part in found)

    return {torch.ops.aten._linalg_solve_ex.default: solve, torch.ops.aten.median.dim: median}


def quantise(path: Path, out: Path) -> None:
    """Write the network of `path` with weights of 8 bits, each output channel with a scale of its own.

    Weights are brought back to 32 bits when the file is opened: the file is smaller, arithmetic stays the same.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    graph, made = model.graph, []
    convolved = {node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm")}
    for tensor in list(graph.initializer):
        weight = numpy_helper.to_array(tensor)
        if tensor.name not in convolved or weight.dtype != np.float32 or weight.size < MIN_QUANTISED:
            continue
        scale = np.maximum(np.abs(weight.reshape(len(weight), -1)).max(1), 1e-12).astype(np.float32) / 127
        whole = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        name = tensor.name
        graph.initializer.remove(tensor)
        graph.initializer.extend(
            [numpy_helper.from_array(whole, f"{name}.int8"), numpy_helper.from_array(scale, f"{name}.scale")]
        )
        made.append(helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name], axis=0))
    for node in reversed(made):
        graph.node.insert(0, node)
    onnx.save(model, out)
