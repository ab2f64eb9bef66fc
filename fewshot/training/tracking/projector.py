"""Writes features of some classes, with thumbnails and names, for TensorBoard's projector."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewshot.datasets import ImageSet
from fewshot.evaluation.embed import embed
from fewshot.methods import Method
from fewshot.runtime import processes
from fewshot.runtime.precision import Precision
from fewshot.training.tracking.pictures import make_thumbnail

MOST_CLASSES, MOST_IMAGES = 30, 20  # MOST_IMAGES of each class; the tab is slow with thousands of thumbnails
MOST_DIMENSIONS = 64  # principal components that are kept, since the tab loads numbers as text
THUMBNAIL_PX = 40


def project(folder: Path, name: str, method: Method, imageset: ImageSet, precision: Precision) -> None:
    """Write the features of images of up to 30 classes as the embedding `name` of the projector tab.

    Nothing is written for a method that does not work on features. Every process must call it; the first one writes
    below `folder`, beside embeddings of other names.
    """
    if not method.uses_features:
        return
    rows = choose_rows(imageset)
    features = embed(method, imageset, rows, precision).values.flatten(1).cpu()
    if processes.is_first():
        write_embedding(folder, name, features, rows, imageset)


def choose_rows(imageset: ImageSet) -> Tensor:
    """Choose classes evenly spread over the image set, and the rows of their first images, (n,), class by class."""
    count = min(MOST_CLASSES, imageset.n_classes)
    classes = np.arange(count) * imageset.n_classes // count
    return torch.from_numpy(np.concatenate([np.flatnonzero(imageset.labels == c)[:MOST_IMAGES] for c in classes]))


def write_embedding(folder: Path, name: str, features: Tensor, rows: Tensor, imageset: ImageSet) -> None:
    """Write features (n, D) of `rows` (n,) and their thumbnails, replacing an embedding of the same name."""
    from google.protobuf import text_format  # slow to import
    from tensorboard.plugins import projector

    place = folder / "projector" / name.replace(" ", "_").replace("/", "_")
    place.mkdir(parents=True, exist_ok=True)
    np.savetxt(
        place / "features.tsv", project_on_principal_components(features.double()).numpy(), fmt="%.5g", delimiter="\t"
    )
    names = [imageset.class_names[c].replace("\t", " ") for c in imageset.labels[rows.numpy()]]
    lines = [f"{name}\t{row}" for name, row in zip(names, rows.tolist(), strict=True)]
    (place / "names.tsv").write_text("\n".join(["class\timage", *lines]) + "\n")
    make_sprite(imageset.gather(rows)).save(place / "thumbnails.png")
    config, path = projector.ProjectorConfig(), folder / "projector_config.pbtxt"
    if path.exists():
        text_format.Parse(path.read_text(), config)
    others = [embedding for embedding in config.embeddings if embedding.tensor_name != name]
    del config.embeddings[:]
    config.embeddings.extend(others)
    added = config.embeddings.add(tensor_name=name)
    for field, file in (("tensor_path", "features.tsv"), ("metadata_path", "names.tsv")):
        setattr(added, field, str((place / file).relative_to(folder)))
    added.sprite.image_path = str((place / "thumbnails.png").relative_to(folder))
    added.sprite.single_image_dim.extend([THUMBNAIL_PX, THUMBNAIL_PX])
    projector.visualize_embeddings(str(folder), config)


def project_on_principal_components(features: Tensor) -> Tensor:
    """Project features (n, D) on at most 64 principal components, (n, min(n, D, 64))."""
    centred = features - features.mean(0)
    left, scale, _ = torch.linalg.svd(centred, full_matrices=False)
    return (left * scale)[:, :MOST_DIMENSIONS]


def make_sprite(images: Tensor) -> Image.Image:
    """Arrange uint8 images (n, C, H, W) as thumbnails in one square picture, row by row."""
    side = int(np.ceil(np.sqrt(len(images))))
    picture = Image.new("RGB", (side * THUMBNAIL_PX, side * THUMBNAIL_PX), (255, 255, 255))
    for i, image in enumerate(images):
        picture.paste(make_thumbnail(image, THUMBNAIL_PX), (i % side * THUMBNAIL_PX, i // side * THUMBNAIL_PX))
    return picture
