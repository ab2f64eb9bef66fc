"""Features kept on disk: a frozen backbone looks at an image set once, whichever methods ask for it."""

import hashlib
import json
import logging
from functools import cache
from pathlib import Path

from torch import Tensor

from fewshot import parallel
from fewshot.checkpoint import load_checkpoint, save_checkpoint
from fewshot.datasets import ImageSet
from fewshot.datasets.store import cache_dir
from fewshot.errors import CheckpointError
from fewshot.features import device_of, embed
from fewshot.methods import Method
from fewshot.precision import Precision, resolve
from fewshot.provenance import versions, weights_hash

FORMAT = "fewshot-features-1"
ROOT = Path(__file__).parent
logger = logging.getLogger(__name__)
DECIDING = ("backbones", "methods", "circles.py", "features.py", "memory_format.py", "precision.py")


def stored_embedding(method: Method, imageset: ImageSet, precision: Precision = "float32") -> Tensor:
    """As `embed` of the whole image set, from `FEWSHOT_CACHE/features/` where it was stored before.

    The key is a hash of pixels, labels and groups, of the weights that take part, of what prepares the
    images, of precision, kind of device and library versions, and of the source files of backbones and
    methods: after any change the features are made anew. A file that cannot be read is made anew too.
    """
    if parallel.world_size() > 1:  # all take part in an embedding, and might not find the same files
        return embed(method, imageset, precision=precision)
    path = cache_dir() / "features" / f"{_key(method, imageset, precision)}.safetensors"
    if path.exists():
        try:
            return load_checkpoint(path, FORMAT)["features"].to(device_of(method))
        except CheckpointError as error:
            logger.warning("%s: features are made anew", error)
    features = embed(method, imageset, precision=precision)
    try:
        save_checkpoint(path, {"features": features}, FORMAT)
    except CheckpointError as error:
        logger.warning("%s: features are not kept", error)
    return features


def _key(method: Method, imageset: ImageSet, precision: Precision) -> str:
    plain = type(method).encode is Method.encode and method.backbone is not None  # then only the backbone decides
    device = device_of(method)
    parts = [
        imageset.fingerprint,
        weights_hash(method.backbone if plain else method),
        "" if plain else f"{type(method).__qualname__} {vars(method)}",
        repr(method.backbone),
        resolve(precision, device),
        device.type,
        sorted(versions().items()),
        _sources(),
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


@cache
def _sources() -> str:
    """Hash of the source files that decide features."""
    digest = hashlib.blake2b(digest_size=8)
    for place in (ROOT / name for name in DECIDING):
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()
