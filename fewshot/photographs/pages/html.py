"""Writes self-contained HTML pages, which load nothing from the network: escaping, thumbnails, the shared style."""

import base64
import hashlib
import html
import io
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from PIL import Image

from fewshot.errors import DataError
from fewshot.photographs.inspection.reading import Photograph, read_photographs

BYTES_FOR_ALL = 6_500_000  # for all thumbnails of a page, before base64 adds a third
SMALLEST_BYTES, LARGEST_BYTES = 600, 40_000  # limits of one thumbnail
SIDES = ((30_000, 640), (12_000, 384), (0, 192))  # (bytes of a thumbnail, its longer side in px with so many or more)
ENLARGED = '\n<dialog id="enlarged"><button type="button" aria-label="close">×</button><div></div><p></p></dialog>'
LADDER = ((1.0, 80), (1.0, 60), (0.8, 55), (0.6, 50), (0.45, 45), (0.33, 40), (0.2, 30))  # (scale, WebP quality)


def escape(value: object) -> str:
    r"""Escape a value for HTML text or attributes: markup, quotes and undecodable bytes of file names (as `\udcff`)."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode(), quote=True)


def write_page(title: str, body: str, script: str = "", connects: bool = False) -> str:
    """Write an HTML document whose content security policy allows only inline styles, embedded images and `script`.

    `connects`: the script may talk to the server that the page comes from.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    policy += "; connect-src 'self'" if connects else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n'
        f"<style>\n{read_asset('page.css')}</style>\n</head>\n<body>\n{body}\n"
        + (f"<script>{script}</script>\n" if script else "")
        + "</body>\n</html>\n"
    )


def read_asset(name: str) -> str:
    """Read a text file of this package."""
    return files("fewshot.photographs.pages").joinpath(name).read_text(encoding="utf-8")


def make_thumbnails(
    paths: Iterable[Path | None], longer_px: int | None = None, n_bytes: int = BYTES_FOR_ALL
) -> dict[Path, str]:
    """Encode each distinct path that can be read as a WebP `data:` URL; all of them together take about `n_bytes`.

    `longer_px`: their longer side at most; None: larger where pictures are few, so that they can be enlarged.
    """
    distinct = list(dict.fromkeys(path for path in paths if path is not None))
    share = min(LARGEST_BYTES, max(SMALLEST_BYTES, n_bytes // max(1, len(distinct))))

    longer_px = longer_px or next(side for least, side in SIDES if share >= least)

    def encode(photograph: Photograph) -> str:
        return _encode_webp(Image.fromarray(photograph.pixels), share)

    made = read_photographs(distinct, encode, longer_px)
    return {path: data for path, data in zip(distinct, made, strict=True) if not isinstance(data, DataError)}


def write_picture(data: str | None, alt: str, title: str = "") -> str:
    """Write an image that loads when scrolled into view, or the words "no picture" if there are no data."""
    if data is None:
        return f'<span class="missing" title="{escape(title or alt)}">no picture</span>'
    return f'<img loading="lazy" decoding="async" src="{data}" alt="{escape(alt)}" title="{escape(title or alt)}">'


def write_tiles(figures: Sequence[tuple[str, str]]) -> str:
    """Write large numbers, each with its label below."""
    cells = "".join(f"<div><b>{escape(number)}</b><span>{escape(label)}</span></div>" for number, label in figures)
    return f'<div class="tiles">{cells}</div>'


def write_facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Write a list of named facts, leaving out those that are None."""
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs if v is not None)
    return f'<dl class="facts">{rows}</dl>'


def write_bar(share: float, label: str, number: str, kind: str = "") -> str:
    """Write one line of a bar chart: the label, a bar of length `share` (0 to 1), the number."""
    return (
        f'<div class="bar {kind}"><span title="{escape(label)}">{escape(label)}</span>'
        f'<i><u style="width:{100 * share:.1f}%"></u></i><em>{escape(number)}</em></div>'
    )


def _encode_webp(image: Image.Image, n_bytes: int) -> str:
    """Encode `image` at the first step of `LADDER` that fits into `n_bytes`, or at the last one."""
    for share, quality in LADDER:
        size = tuple(max(1, round(share * side)) for side in image.size)
        buffer = io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).save(buffer, "WEBP", quality=quality, method=2)
        if buffer.tell() <= n_bytes:
            break
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
