"""Coins as files: a support set, and others as phones, scanners and drawing programs write them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from fewshot.datasets import ImageSet, load_dataset

PHOTO_PX = (4000, 3000)  # 12 megapixels


class Coins(NamedTuple):
    """Files to learn from with their labels, and files of other photographs to ask about, with theirs and groups."""

    support: list[Path]
    labels: list[str]
    asked: list[Path]
    truth: np.ndarray
    groups: np.ndarray


def write_coins(root: Path, n_shot: int, n_files: int, odd: bool) -> Coins:
    """Euro coins: `n_shot` a class, each of another photograph, and `n_files` of photographs without any of these."""
    coins = load_dataset("euro_coins", "all", size_px=150)
    assert coins.groups is not None, "euro coins have photographs"
    rows: list[int] = []
    for label in range(len(coins.class_names)):
        mine = np.flatnonzero(coins.labels == label)
        first = np.unique(coins.groups[mine], return_index=True)[1]  # of each photograph, in the order of the rows
        rows += mine[np.sort(first)[:n_shot]].tolist()
    others = np.flatnonzero(~np.isin(coins.groups, coins.groups[rows]))
    chosen = others[np.linspace(0, len(others) - 1, n_files).astype(int)]
    support = [root / "support" / f"{number}.png" for number in range(len(rows))]
    support[0].parent.mkdir()
    for path, row in zip(support, rows, strict=True):
        _as_image(coins, row).save(path)
    pictures = [_as_image(coins, int(row)) for row in chosen]
    names = np.array(coins.class_names)
    asked = write_odd_files(pictures, root / "asked", odd)
    return Coins(support, names[coins.labels[rows]].tolist(), asked, names[coins.labels[chosen]], coins.groups[chosen])


def write_odd_files(images: list[Image.Image], folder: Path, odd: bool = True) -> list[Path]:
    """The pictures in ten ways in turn, or without `odd` as JPEG."""
    folder.mkdir()
    paths = []
    for number, image in enumerate(images):
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        clear = image.convert("RGBA")
        clear.putalpha(Image.linear_gradient("L").resize(image.size))
        kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
            ("turned.jpg", image, {"exif": exif}),
            ("cmyk.jpg", image.convert("CMYK"), {}),
            ("16 bits.png", Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), {}),
            ("palette.png", image.convert("P", palette=Image.Palette.ADAPTIVE), {}),
            ("clear.png", clear, {}),
            ("grey.jpg", image.convert("L"), {}),
            ("12 megapixels.jpg", image.resize(PHOTO_PX), {"quality": 90}),
            ("photo.webp", image, {}),
            ("turned.tif", image, {"exif": exif}),
            ("palette.gif", image.convert("P"), {}),
        ]
        name, changed, options = kinds[number % len(kinds)] if odd else ("photo.jpg", image, {"quality": 95})
        paths.append(folder / f"{number} {name}")
        changed.save(paths[-1], **options)
    return paths


def _as_image(images: ImageSet, row: int) -> Image.Image:
    return Image.fromarray(images.gather(torch.tensor([row]))[0].permute(1, 2, 0).numpy())
