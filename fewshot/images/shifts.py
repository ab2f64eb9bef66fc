"""What cameras, light and hands do to pictures: shifts under which a classifier is measured."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from fewshot.images.imageset import ImageSet
from fewshot.registry import unknown_name
from fewshot.runtime import seeding

GREY = (128, 128, 128)


def _scale(image: Image.Image, factor: float) -> Image.Image:
    """The picture at another size in a frame of the old one; what is not covered is grey."""
    width, height = image.size
    small = image.resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    framed = Image.new("RGB", image.size, GREY)
    framed.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
    return framed


def _compress(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


def _add_noise(image: Image.Image, deviation: float, draw: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float64)
    noisy = pixels + deviation * draw.normal(size=pixels.shape)
    return Image.fromarray(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))


SHIFTS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "blur": lambda image, _: image.filter(ImageFilter.GaussianBlur(2)),
    "darker": lambda image, _: ImageEnhance.Brightness(image).enhance(0.5),
    "brighter": lambda image, _: ImageEnhance.Brightness(image).enhance(1.6),
    "smaller": lambda image, _: _scale(image, 0.7),
    "turned": lambda image, draw: image.rotate(float(draw.uniform(0, 360)), Image.Resampling.BICUBIC, fillcolor=GREY),
    "jpeg": lambda image, _: _compress(image, 10),
    "noise": lambda image, draw: _add_noise(image, 20.0, draw),
}  # Gaussian blur of 2 px, light x 0.5 and x 1.6, 0.7 of the size, any turn, JPEG quality 10, noise of 20 of 255


def shift_images(images: ImageSet, name: str, seed: int = 0) -> ImageSet:
    """The same colour images, shifted.

    Args:
        images: (n, 3, height, width).
        name: one of `SHIFTS`.
        seed: of turns and noise; image i is changed by `(seed, name, i)` alone.

    Raises:
        UnknownNameError: for an unknown name.
    """
    if name not in SHIFTS:
        raise unknown_name("shift", name, SHIFTS)
    pixels = images.images.permute(0, 2, 3, 1).cpu().numpy()
    shifted = [
        np.asarray(SHIFTS[name](Image.fromarray(image), seeding.numpy_generator(seed, "shift", name, number)))
        for number, image in enumerate(pixels)
    ]
    return ImageSet(
        np.stack(shifted).transpose(0, 3, 1, 2), images.labels, images.class_names, images.groups,
        name=f"{images.name}, {name}", split=images.split, origins=images.origins,
    )  # fmt: skip
