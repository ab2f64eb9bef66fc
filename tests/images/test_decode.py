"""decode_image: correct pixels from every kind of image, and a clear error for everything else."""

import io
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures import STORED
from PIL import Image

from fewshot.errors import DataError, FewShotError
from fewshot.images.decode import decode_image, open_zip

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION_TAG = 0x0112


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def solid(mode: str, colour, size=(12, 12)) -> Image.Image:
    return Image.new(mode, size, colour)


def halves(mode: str, left, right, size=(12, 12)) -> Image.Image:
    """An image with colour `left` on its left half and `right` on its right half."""
    image = Image.new(mode, size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    return image


def decode(data: bytes | Path, channels=3, size_px=12, resize="crop") -> np.ndarray:
    return decode_image(data, "the-file", channels, size_px, resize)


def assert_colour(pixels: np.ndarray, colour, tolerance: int = 0) -> None:
    """Check that every pixel of (channels, height_px, width_px) is `colour`."""
    expected = np.broadcast_to(np.reshape(colour, (-1, 1, 1)), pixels.shape)
    np.testing.assert_allclose(pixels.astype(int), expected, rtol=0, atol=tolerance)


def test_shape_dtype_and_memory_layout():
    for channels in (1, 3):
        pixels = decode(encoded(solid("RGB", RED, (20, 9))), channels, size_px=7)
        assert pixels.shape == (channels, 7, 7)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable


def test_same_size_keeps_every_pixel():
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    for resize in ("crop", "pad", "stretch"):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(noise)), resize=resize), noise.transpose(2, 0, 1))


GREY_OF_RED = 76  # ITU-R 601: 0.299 * 255 = 76.2


@pytest.mark.parametrize(
    ("image", "file_format", "colour", "grey"),
    [
        (solid("RGB", (10, 200, 30)), "PNG", (10, 200, 30), 124),  # .299*10 + .587*200 + .114*30 = 123.8
        (solid("RGB", RED), "BMP", RED, GREY_OF_RED),
        (solid("RGB", RED), "TIFF", RED, GREY_OF_RED),
        (solid("RGB", RED), "PPM", RED, GREY_OF_RED),
        (solid("L", 77), "PNG", (77, 77, 77), 77),
        (solid("LA", (77, 255)), "PNG", (77, 77, 77), 77),
        (solid("LA", (77, 0)), "PNG", WHITE, 255),
        (solid("LA", (100, 51)), "PNG", (224, 224, 224), 224),  # 0.2 * 100 + 0.8 * 255
        (solid("RGBA", (*RED, 255)), "PNG", RED, GREY_OF_RED),
        (solid("RGBA", (*RED, 0)), "PNG", WHITE, 255),
        (solid("RGBA", (0, 0, 100, 51)), "PNG", (204, 204, 224), 206),
        (solid("RGBA", (*RED, 0)), "TIFF", WHITE, 255),
        (solid("1", 1), "PNG", WHITE, 255),
        (solid("1", 0), "TIFF", (0, 0, 0), 0),
        (solid("CMYK", (0, 255, 255, 0)), "TIFF", RED, GREY_OF_RED),
        (solid("RGB", RED).quantize(4), "PNG", RED, GREY_OF_RED),
        (solid("RGB", RED).quantize(4), "GIF", RED, GREY_OF_RED),
        (solid("I;16", 65535), "PNG", WHITE, 255),
        (solid("I;16", 40000), "PNG", (156, 156, 156), 156),  # 40000 * 255 / 65535 = 155.64
        (solid("I;16", 200), "TIFF", (1, 1, 1), 1),  # 0.78
        (solid("I;16B", 40000), "TIFF", (156, 156, 156), 156),
        (solid("I", 40000), "TIFF", (156, 156, 156), 156),
        (solid("I", 65535), "TIFF", WHITE, 255),
    ],
)
def test_solid_images_of_every_mode(image, file_format, colour, grey):
    data = encoded(image, file_format)
    assert_colour(decode(data), colour)
    assert_colour(decode(data, channels=1), [grey], tolerance=1)  # the grey of a blend is rounded twice


@pytest.mark.parametrize(("mode", "colour"), [("CMYK", (0, 255, 255, 0)), ("RGB", RED), ("L", 76)])
def test_jpeg_modes(mode, colour):
    data = encoded(solid(mode, colour, (40, 40)), "JPEG", quality=95)
    assert_colour(decode(data), (76, 76, 76) if mode == "L" else RED, tolerance=3)
    assert_colour(decode(data, channels=1), [76], tolerance=3)


def test_webp_lossless_with_and_without_transparency():
    assert_colour(decode(encoded(solid("RGB", RED), "WEBP", lossless=True)), RED)
    pixels = decode(encoded(halves("RGBA", (*RED, 255), (*BLUE, 0)), "WEBP", lossless=True))
    assert_colour(pixels[:, :, :6], RED)
    assert_colour(pixels[:, :, 6:], WHITE)


def test_transparent_palette_colour_becomes_white():
    palette = Image.new("P", (12, 12), 0)
    palette.putpalette([*RED, *BLUE])
    palette.paste(1, (6, 0, 12, 12))
    for file_format in ("PNG", "GIF"):
        opaque, clear = encoded(palette, file_format), encoded(palette, file_format, transparency=1)
        for data, right in ((opaque, BLUE), (clear, WHITE)):
            pixels = decode(data)
            assert_colour(pixels[:, :, :6], RED)
            assert_colour(pixels[:, :, 6:], right)


def test_transparent_key_colour_of_grey_rgb_and_16_bit_images():
    cases = [
        (halves("RGB", RED, BLUE), BLUE, RED),
        (halves("L", 50, 200), 200, (50, 50, 50)),
    ]
    for image, clear, left in cases:
        pixels = decode(encoded(image, transparency=clear))
        assert_colour(pixels[:, :, :6], left)
        assert_colour(pixels[:, :, 6:], WHITE)
    sixteen = Image.fromarray(np.repeat(np.array([[257 * 50, 257 * 9]], np.uint16), 6, axis=1).repeat(12, 0))
    pixels = decode(encoded(sixteen, transparency=257 * 9))
    assert_colour(pixels[:, :, :6], (50, 50, 50))
    assert_colour(pixels[:, :, 6:], WHITE)


def test_16_bit_greys_scale_from_the_full_range():
    values = np.linspace(0, 65535, 144).astype(np.uint16).reshape(12, 12)
    pixels = decode(encoded(Image.fromarray(values)), channels=1)
    np.testing.assert_array_equal(pixels[0], np.round(values / 65535 * 255))


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(file_format):
    frames = [solid("RGB", colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], duration=100, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert_colour(decode(data), RED)


def test_first_page_of_a_tiff():
    data = encoded(solid("RGB", RED), "TIFF", save_all=True, append_images=[solid("RGB", BLUE)])
    assert_colour(decode(data), RED)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation(orientation, file_format):
    upright = np.zeros((48, 48, 3), np.uint8)  # red, green / blue, white quarters
    for (top, left), colour in zip([(0, 0), (0, 24), (24, 0), (24, 24)], (RED, GREEN, BLUE, WHITE), strict=True):
        upright[top : top + 24, left : left + 24] = colour
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(file_format, {})
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    pixels = decode(encoded(stored, file_format, exif=exif, **options), size_px=48)
    difference = np.abs(pixels.astype(int) - upright.transpose(2, 0, 1))
    assert difference.max() <= (12 if file_format == "JPEG" else 0)


def test_orientation_turns_before_cropping_and_padding():
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6  # stored lying, shown standing: the stored left edge is the top
    data = encoded(halves("RGB", RED, BLUE, (24, 12)), "PNG", exif=exif)
    padded = decode(data, resize="pad")  # 6 x 12 in the middle
    assert_colour(padded[:, :, :3], WHITE)
    assert_colour(padded[:, :, 9:], WHITE)
    assert_colour(padded[:, :5, 3:9], RED, tolerance=20)
    assert_colour(padded[:, 7:, 3:9], BLUE, tolerance=20)


def thirds(size: tuple[int, int]) -> Image.Image:
    """An image with red, green and blue thirds along its longer side."""
    image = Image.new("RGB", size, GREEN)
    width, height = size
    if width > height:
        image.paste(RED, (0, 0, width // 3, height))
        image.paste(BLUE, (2 * width // 3, 0, width, height))
    else:
        image.paste(RED, (0, 0, width, height // 3))
        image.paste(BLUE, (0, 2 * height // 3, width, height))
    return image


@pytest.mark.parametrize("size", [(36, 12), (12, 36)])
def test_crop_takes_the_middle_square(size):
    assert_colour(decode(encoded(thirds(size))), GREEN)


@pytest.mark.parametrize("size", [(72, 24), (24, 72), (9, 3)])
def test_crop_is_the_middle_of_the_scaled_image(size):
    scaled = thirds(size).resize((36, 12) if size[0] > size[1] else (12, 36), Image.Resampling.LANCZOS)
    middle = np.asarray(scaled).transpose(2, 0, 1)
    middle = middle[:, :, 12:24] if size[0] > size[1] else middle[:, 12:24]
    np.testing.assert_allclose(decode(encoded(thirds(size))).astype(int), middle, atol=1)
    assert_colour(middle[:, 4:8, 4:8], GREEN, tolerance=12)


@pytest.mark.parametrize("size", [(36, 12), (12, 36), (72, 24)])
def test_pad_keeps_the_whole_image_on_white(size):
    pixels = decode(encoded(thirds(size)), size_px=36, resize="pad")
    if size[1] > size[0]:
        pixels = pixels.transpose(0, 2, 1)
    assert_colour(pixels[:, :12], WHITE)
    assert_colour(pixels[:, 24:], WHITE)
    middle = pixels[:, 12:24]  # (3, 12, 36)
    for start, colour in ((0, RED), (12, GREEN), (24, BLUE)):
        assert_colour(middle[:, :, start + 3 : start + 9], colour, tolerance=12)


def test_pad_of_grey_is_white_too_and_odd_borders_fit():
    pixels = decode(encoded(solid("L", 10, (12, 5))), channels=1, resize="pad")  # borders of 3 and 4
    assert_colour(pixels[:, :3], [255])
    assert_colour(pixels[:, 3:8], [10])
    assert_colour(pixels[:, 8:], [255])


@pytest.mark.parametrize("size", [(36, 12), (12, 36)])
def test_stretch_ignores_the_aspect_ratio(size):
    pixels = decode(encoded(thirds(size)), size_px=36, resize="stretch")
    if size[1] > size[0]:
        pixels = pixels.transpose(0, 2, 1)
    for start, colour in ((0, RED), (12, GREEN), (24, BLUE)):
        assert_colour(pixels[:, :, start + 3 : start + 9], colour, tolerance=12)


def test_downscaling_averages():
    board = np.indices((120, 120)).sum(0) % 2 * 255  # a chequerboard of single pixels: grey from afar
    for resize in ("crop", "pad", "stretch"):
        pixels = decode(encoded(Image.fromarray(board.astype(np.uint8))), channels=1, resize=resize)
        assert_colour(pixels[:, 1:-1, 1:-1], [127], tolerance=2)


def test_extreme_shapes():
    for size in ((5000, 1), (1, 5000), (1, 1)):
        for resize in ("crop", "stretch"):
            assert_colour(decode(encoded(solid("RGB", RED, size)), resize=resize), RED)
        assert decode(encoded(solid("RGB", RED, size)), resize="pad").shape == (3, 12, 12)


def test_draft_gives_the_same_picture():
    """Compare a JPEG decoded at a fraction of its size with a PNG of the same pixels, decoded in full."""
    ramp = np.add.outer(np.arange(900), np.arange(1200)) * 255 // 2100
    picture = Image.fromarray(np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1).astype(np.uint8))
    for resize in ("crop", "pad", "stretch"):
        full = decode(encoded(picture), size_px=60, resize=resize)
        draft = decode(encoded(picture, "JPEG", quality=95), size_px=60, resize=resize)
        assert np.abs(full.astype(int) - draft).max() <= 4, resize


def test_a_large_photograph_decodes_fast():
    """50 megapixels: a full decode is measured in turns with it, and each by its best of three: machines are busy."""
    data = encoded(Image.effect_noise((1083, 722), 60).resize((8660, 5773)).convert("RGB"), "JPEG")
    draft_seconds, full_seconds = [], []
    for _ in range(3):
        start = time.perf_counter()
        decode(data, size_px=84)
        middle = time.perf_counter()
        Image.open(io.BytesIO(data)).load()
        draft_seconds.append(middle - start)
        full_seconds.append(time.perf_counter() - middle)
    assert min(draft_seconds) < 0.6 * min(full_seconds)


def test_paths_bytes_and_threads_agree(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    path = tmp_path / "Münze ☃.png"
    path.write_bytes(encoded(Image.fromarray(noise)))
    expected = decode(path.read_bytes())
    results = []
    threads = [threading.Thread(target=lambda: results.append(decode(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for pixels in results:
        np.testing.assert_array_equal(pixels, expected)


PHOTO = encoded(Image.effect_noise((64, 64), 60).convert("RGB"), "JPEG")
DRAWING = encoded(Image.effect_noise((64, 64), 60))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"<!doctype html><p>404", "no image"),
        (b"\x00" * 100, "no image"),
        (PHOTO[:2], "no image"),
        (PHOTO[: len(PHOTO) // 2], "damaged or cut short"),
        (DRAWING[: len(DRAWING) // 2], "damaged or cut short"),
        (DRAWING[:60] + b"\x00" * 200 + DRAWING[260:], "damaged or cut short"),
        (encoded(solid("F", 0.5), "TIFF"), "floating-point"),
        (encoded(solid("I", 70000), "TIFF"), "70000, outside 16 bits"),
        (encoded(solid("I", -1), "TIFF"), "outside 16 bits"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "no image"),
    ],
)
def test_bad_bytes(data, says):
    with pytest.raises(DataError, match=says) as caught:
        decode(data)
    assert str(caught.value).startswith("the-file: ")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(DataError, match="the-file: the file cannot be read"):
            decode(path)


def test_decompression_bombs(monkeypatch):
    data = encoded(solid("1", 0, (200, 100)))
    for limit in (19_999, 9_000):  # Pillow itself warns above the limit and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=f"the-file: .* more than {limit:,} pixels"):
            decode(data)
    for limit in (20_000, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert_colour(decode(data), (0, 0, 0))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_errors_where_warnings_are_not(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 19_999)
    with pytest.raises(DataError, match="more than 19,999 pixels"):
        decode(encoded(solid("1", 0, (200, 100))))


def test_unknown_options():
    data = encoded(solid("RGB", RED))
    with pytest.raises(DataError, match=r"channels is 1 .* got 4"):
        decode(data, channels=4)
    with pytest.raises(DataError, match=r"size_px .* got 0"):
        decode(data, size_px=0)
    with pytest.raises(FewShotError, match="unknown resize rule 'squash'"):
        decode(data, resize="squash")


def test_open_zip_sees_a_changed_archive(tmp_path):
    path = tmp_path / "a.zip"
    for content in (b"one", b"second"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("file", content)
        assert open_zip(path).read("file") == content
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="no readable zip archive"):
        open_zip(path)
