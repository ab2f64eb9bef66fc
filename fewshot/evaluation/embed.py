"""Embed an image set once: its features are an ordinary labelled set from then on."""

import torch
from torch import Tensor

from fewshot.datasets import ImageSet
from fewshot.methods import Method
from fewshot.runtime import processes
from fewshot.runtime.choices import Precision
from fewshot.runtime.evaluation_mode import evaluating
from fewshot.runtime.layout import channels_last
from fewshot.runtime.precision import autocast

# Pixels in one pass of the backbone. On a CPU the activations of 128 images of 28 px stay in its caches: 33,840
# images took 1.8 s, against 4.2 s in chunks of 256; an accelerator wants large passes.
CHUNK_PIXELS = {"cpu": 128 * 28 * 28, "other": 1 << 23}
KEPT_BYTES = 8 << 30  # features of a frozen backbone up to this size are kept for as long as it trains
LEAST_CHUNK = 16  # images; fewer leave more time between the layers (EfficientNet-Lite0, 128 px: a tenth)


@torch.no_grad()
def embed(method: Method, imageset: ImageSet, rows: Tensor | None = None, precision: Precision = "float32") -> Tensor:
    """Features (n, D) of `rows` (n,) of the image set (all of them without `rows`), on the method's device.

    With several processes each embeds every k-th chunk and all get the whole; the chunks are those of
    one process, so the features are too.
    """
    rows = torch.arange(len(imageset)) if rows is None else rows
    device = device_of(method)
    _, height_px, width_px = imageset.image_shape
    chunk_images = max(LEAST_CHUNK, CHUNK_PIXELS["cpu" if device.type == "cpu" else "other"] // (height_px * width_px))
    chunks = rows.split(chunk_images)[processes.rank() :: processes.world_size()]
    with evaluating(method), autocast(precision, device), channels_last(method):
        mine = [method.encode(imageset.gather(chunk).to(device)).cpu() for chunk in chunks]
    return torch.cat(processes.interleaved(processes.gathered(mine))).to(device)


def embed_frozen(method: Method, imageset: ImageSet, precision: Precision = "float32") -> Tensor | None:
    """Features of the whole image set where training does not change them and they fit `KEPT_BYTES`; else None."""
    if not (method.frozen and method.from_features):
        return None
    one = embed(method, imageset, torch.zeros(1, dtype=torch.int64), precision)
    return embed(method, imageset, precision=precision) if one.nbytes * len(imageset) <= KEPT_BYTES else None


def device_of(method: Method) -> torch.device:
    """Where the method's weights lie; the CPU for a method without any."""
    tensor = next(method.parameters(), None)
    tensor = next(method.buffers(), None) if tensor is None else tensor
    return torch.device("cpu") if tensor is None else tensor.device
