"""Embed an image set once: its features are an ordinary labelled set from then on."""

import torch
from torch import Tensor

from fewshot import parallel
from fewshot.datasets import ImageSet
from fewshot.methods import Method
from fewshot.precision import Precision, autocast

CHUNK_IMAGES = 256  # images in one pass of the backbone: a bound on memory


@torch.no_grad()
def embed(method: Method, imageset: ImageSet, rows: Tensor | None = None, precision: Precision = "float32") -> Tensor:
    """Features (n, D) of `rows` (n,) of the image set (all of them without `rows`), on the method's device.

    With several processes each embeds every k-th chunk and all get the whole; the chunks are those of
    one process, so the features are too.
    """
    rows = torch.arange(len(imageset)) if rows is None else rows
    device = device_of(method)
    was_training = method.training
    method.eval()
    chunks = rows.split(CHUNK_IMAGES)[parallel.rank() :: parallel.world_size()]
    with autocast(precision, device):
        mine = [method.encode(imageset.gather(chunk).to(device)).cpu() for chunk in chunks]
    method.train(was_training)
    return torch.cat(parallel.interleaved(parallel.gathered(mine))).to(device)


def device_of(method: Method) -> torch.device:
    """Where the method's weights lie; the CPU for a method without any."""
    tensor = next(method.parameters(), None)
    tensor = next(method.buffers(), None) if tensor is None else tensor
    return torch.device("cpu") if tensor is None else tensor.device
