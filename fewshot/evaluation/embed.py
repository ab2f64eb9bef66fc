"""Computes the features of an image set, which are then used like a labelled data set."""

from functools import partial

import torch
from torch import Tensor, nn

from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.evaluation.feature_store import load_or_make
from fewshot.methods import Method
from fewshot.methods.features import encode_images
from fewshot.runtime import processes
from fewshot.runtime.devices import device_of
from fewshot.runtime.evaluation_mode import evaluating
from fewshot.runtime.layout import channels_last
from fewshot.runtime.precision import Precision, autocast, resolve
from fewshot.runtime.provenance import hash_weights

# Pixels in one forward pass. On a CPU the activations of 128 images of 28 px fit into the caches: 33,840 images took
# 1.8 s, against 4.2 s in chunks of 256. An accelerator is only busy with large passes.
CHUNK_PIXELS = {"cpu": 128 * 28 * 28, "other": 1 << 23}
KEPT_BYTES = 8 << 30  # features of a frozen backbone are kept in memory during training up to this size
LEAST_CHUNK = 16  # images; with fewer, the overhead of each layer shows (EfficientNet-Lite0, 128 px: a tenth)


def embed(
    network: nn.Module,
    imageset: ImageSet,
    rows: Tensor | None = None,
    precision: Precision = "float32",
    *,
    store: bool = False,
) -> FeatureSet:
    """What a method or a backbone makes of each image, in evaluation mode, on the network's device.

    With several processes each embeds every k-th chunk and all get the whole; the chunks are those of one process, so
    the features are too.

    Args:
        network: a `Method` that works from features, or a backbone: images (n, C, H, W) -> features.
        imageset: the images.
        rows: row numbers (n,) of the images to embed; None: all of them.
        precision: what the network computes in; features are float32 or wider.
        store: take the features from `FEWSHOT_CACHE/features/` if they are there, else leave them there; see
            `fewshot.evaluation.feature_store`. Only the features of all rows are stored.

    Returns:
        The features (n, D), or maps (n, c, h, w).

    Raises:
        ConfigError: for a method that does not work from features, and for `store` with `rows`.
    """
    if isinstance(network, Method) and not network.uses_features:
        raise ConfigError(f"{network.label}, as configured, does not work on features: it has none to embed images by")
    made = {"encoder": hash_encoder(network), "precision": resolve(precision, device_of(network))}
    if not store:
        return FeatureSet(imageset, _encode(network, imageset, rows, precision), rows, **made)
    if rows is not None:
        raise ConfigError("only the features of a whole image set are stored: embed some of its rows with store=False")
    make = partial(_encode, network, imageset, None, precision)
    return FeatureSet(imageset, load_or_make(network, imageset, precision, make), **made)


def hash_encoder(network: nn.Module) -> str:
    """Hash the weights on which the features of `network`, a `Method` or a backbone, depend."""
    backbone = network.backbone if isinstance(network, Method) else network
    return "no backbone" if backbone is None else hash_weights(backbone)


@torch.no_grad()
def _encode(network: nn.Module, imageset: ImageSet, rows: Tensor | None, precision: Precision) -> Tensor:
    rows = torch.arange(len(imageset)) if rows is None else rows
    device = device_of(network)
    _, height_px, width_px = imageset.image_shape
    chunk_images = max(LEAST_CHUNK, CHUNK_PIXELS["cpu" if device.type == "cpu" else "other"] // (height_px * width_px))
    chunks = rows.split(chunk_images)[processes.rank() :: processes.world_size()]

    def encode(images: Tensor) -> Tensor:
        return network.encode(images) if isinstance(network, Method) else encode_images(network, images)

    with evaluating(network), autocast(precision, device), channels_last(network):
        mine = [encode(imageset.gather(chunk).to(device)).cpu() for chunk in chunks]
    return torch.cat(processes.interleave(processes.gather(mine))).to(device)


def embed_frozen(method: Method, imageset: ImageSet, precision: Precision = "float32") -> ImageSet | FeatureSet:
    """Embed the image set if training leaves its features unchanged and they fit `KEPT_BYTES`; else return it."""
    if not (method.frozen and method.uses_features):
        return imageset
    one = embed(method, imageset, torch.zeros(1, dtype=torch.int64), precision)
    return embed(method, imageset, None, precision) if one.values.nbytes * len(imageset) <= KEPT_BYTES else imageset
