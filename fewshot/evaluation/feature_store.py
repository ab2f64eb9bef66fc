"""Keeps features on disk, so that a frozen backbone encodes an image set once for all methods."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from torch import Tensor, nn

from fewshot.datasets import ImageSet
from fewshot.errors import CheckpointError
from fewshot.evaluation.feature_key import CannotDescribe, describe_network
from fewshot.images.store import find_cache_dir
from fewshot.methods import Method
from fewshot.runtime import processes
from fewshot.runtime.checkpoint import load_checkpoint, save_checkpoint
from fewshot.runtime.devices import device_of
from fewshot.runtime.precision import Precision, resolve
from fewshot.runtime.provenance import collect_versions, hash_weights

FORMAT = "fewshot-features-1"
ROOT = Path(__file__).parents[1]  # the package
logger = logging.getLogger(__name__)
# The source files and folders of fewshot on which features depend.
DECIDING = (
    "backbones", "methods", "images/circles.py", "evaluation/embed.py",
    "runtime/evaluation_mode.py", "runtime/layout.py", "runtime/precision.py",
)  # fmt: skip


def load_or_make(network: nn.Module, imageset: ImageSet, precision: Precision, make: Callable[[], Tensor]) -> Tensor:
    """Load the features of the whole image set from `FEWSHOT_CACHE/features/`; else call `make()` and store its result.

    The key is a hash of the pixels, labels and groups; of the weights and everything else in the network on which
    features depend (`describe_network`); of precision, kind of device and library versions; and of the source files of
    backbones and methods. After any change the features are computed again, and so they are if the file cannot be
    read. Features of a network that cannot be described are not stored.
    """
    if processes.world_size() > 1:  # all processes must embed together, but might not all find the file
        return make()
    try:
        path = find_cache_dir() / "features" / f"{_make_key(network, imageset, precision)}.safetensors"
    except CannotDescribe as reason:
        logger.warning("features are not stored: %s", reason)
        return make()
    if path.exists():
        try:
            features = load_checkpoint(path, FORMAT)["features"].to(device_of(network))
            with suppress(OSError):  # of a place that can only be read
                os.utime(path)  # when it was last used, for `fewshot data --clear_cache`
            return features
        except CheckpointError as error:
            logger.warning("%s: features are computed again", error)
    features = make()
    try:
        save_checkpoint(path, {"features": features}, FORMAT)
    except CheckpointError as error:
        logger.warning("%s: features are not stored", error)
    return features


def _make_key(network: nn.Module, imageset: ImageSet, precision: Precision) -> str:
    device = device_of(network)
    if isinstance(network, Method) and network.backbone is not None:
        own_encoding = type(network).encode is not Method.encode or "encode" in vars(network)
        network = network if own_encoding else network.backbone
    parts = [
        imageset.fingerprint,
        hash_weights(network),
        describe_network(network),
        resolve(precision, device),
        device.type,
        sorted(collect_versions().items()),
        _hash_sources(),
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


@cache
def _hash_sources() -> str:
    """Hash the source files on which features depend; raises `FileNotFoundError` if one of them does not exist."""
    digest = hashlib.blake2b(digest_size=8)
    for place in (ROOT / name for name in DECIDING):
        if not place.exists():
            raise FileNotFoundError(f"feature_store.DECIDING names {place}, which does not exist: name its new place")
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()
