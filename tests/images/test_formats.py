"""Which files are photographs, which can be read, and the advice on others."""

import io
import os
import socket
import threading

import numpy as np
import pytest
from PIL import Image

from fewshot.errors import DataError
from fewshot.images import formats
from fewshot.images.decode import decode_image, decode_sized, make_square
from fewshot.images.formats import count_unread, is_image
from fewshot.images.listing import list_class_files, list_image_files
from fewshot.photographs.inspection.reading import read_photograph

ORIENTATION = 0x0112


@pytest.fixture
def no_heif(monkeypatch):
    Image.init()
    monkeypatch.setattr(formats, "list_readable_formats", lambda: ("JPEG", "PNG", "TIFF"))


def box(*brands: bytes) -> bytes:
    """The first bytes of a file of the ISO media format, as phones write HEIC."""
    content = b"ftyp" + brands[0] + bytes(4) + b"".join(brands)
    return (len(content) + 4).to_bytes(4, "big") + content + bytes(2000)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (box(b"heic", b"mif1"), "HEIC.*JPEG.*pip install pillow-heif"),
        (box(b"mif1", b"heic"), "HEIC"),
        (box(b"hevc"), "HEIC"),
        (box(b"avif"), "AVIF, which this Pillow cannot read"),
        (box(b"crx "), "raw file"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(100), "raw file"),
    ],
)
def test_a_format_that_is_not_read_is_named(no_heif, data, says):
    with pytest.raises(DataError, match=f"IMG_1.jpg: this is .*{says}"):
        decode_image(data, "IMG_1.jpg", 3, 8, "pad")


def test_files_of_formats_that_are_not_read_are_counted(no_heif):
    assert not is_image("a.HEIC")
    assert is_image("a.JPG")
    said = count_unread(["1.HEIC", "2.heic", "3.CR2", "4.png", "notes.txt"])
    assert said.startswith("3 photographs in formats that are not read (1 .cr2, 2 .heic): ")
    assert "develop it" in said
    assert "pip install pillow-heif" in said
    assert count_unread(["a.png", "b.txt"]) == ""


def test_heic_is_an_image_where_something_reads_it(monkeypatch):
    monkeypatch.setattr(formats, "list_readable_formats", lambda: ("HEIF",))
    assert is_image("a.heic")
    assert count_unread(["a.heic"]) == ""


def test_a_class_folder_says_what_it_leaves_out(no_heif, tmp_path, caplog):
    for name in ("a/1.png", "a/2.heic", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(list_class_files(tmp_path)) == 2
    assert "left out: 1 photograph in a format that is not read (1 .heic)" in caplog.text
    (tmp_path / "b" / "1.png").rename(tmp_path / "b" / "1.heic")
    with pytest.raises(
        DataError, match=r"no image in b \(only files of other kinds: \.heic; 1 photograph in a format that is not"
    ):
        list_class_files(tmp_path)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as made:
        place = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        made.bind("socket.jpg")
        os.chdir(place)
        with (tmp_path / "giant.jpg").open("wb") as file:
            file.truncate(1 << 40)  # takes no room on the disk
        answers = {"pipe": "a pipe", "zero": "a device", "socket": "the file cannot be read", "giant": "too many"}
        for name, says in answers.items():
            with pytest.raises(DataError, match=f"{name}.jpg: .*{says}"):
                decode_image(tmp_path / f"{name}.jpg", f"{name}.jpg", 3, 8, "pad")


def test_a_pipe_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    failed = []

    def read() -> None:
        try:
            read_photograph(tmp_path / "pipe.jpg")
        except DataError as error:
            failed.append(error)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(20)
    assert len(failed) == 1


def test_links_are_followed_once(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "back").symlink_to(tmp_path)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "0.png").symlink_to(tmp_path / "a" / "1.png")
    found, unread = list_image_files(tmp_path)
    assert len({path.resolve() for path in found}) == len(found) == 3
    assert unread == []


def test_a_link_to_a_photograph_elsewhere_is_one(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "1.png").write_bytes(b"1")
    for name in ("x.png", "y.png"):
        (tmp_path / "c").mkdir(exist_ok=True)
        (tmp_path / "c" / name).symlink_to(tmp_path / "store" / "1.png")
    assert [file.file_name for file in list_class_files(tmp_path) if file.class_name == "c"] == ["x.png"]


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_and_no_margin(tmp_path, file_format, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"o.{file_format}"
    Image.fromarray(np.full((60, 120, 3), (200, 30, 30), np.uint8)).save(path, file_format, exif=exif)
    seen = read_photograph(path)
    upright = (60, 120) if orientation > 4 else (120, 60)
    assert (seen.width_px, seen.height_px) == upright
    assert not (seen.pixels > 245).all(2).any()


@pytest.mark.parametrize(("size", "side"), [((2164, 1626), 224), ((451, 300), 64), ((300, 451), 64)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_has_the_geometry_of_the_same_png(size, side, orientation):
    """If 8 does not divide the size, the decoder rounds the reduced size up, but the picture must not be stretched."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    ramp = np.add.outer(np.arange(size[1]) / size[1], np.arange(size[0]) / size[0]) * 120
    image = Image.fromarray(np.stack([ramp] * 3, -1).astype(np.uint8))
    for resize in ("pad", "crop", "stretch"):
        decoded = []
        for file_format, options in (("PNG", {"compress_level": 1}), ("JPEG", {"quality": 95})):
            buffer = io.BytesIO()
            image.save(buffer, file_format, exif=exif, **options)
            decoded.append(decode_image(buffer.getvalue(), "d", 1, side, resize).astype(int))
        assert np.abs(decoded[0] - decoded[1]).max() <= 3, resize


def test_a_large_jpeg_is_decoded_at_a_fraction(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    large = Image.new("L", (1200, 900), 128)

    def data(file_format: str, **options) -> bytes:
        buffer = io.BytesIO()
        large.save(buffer, file_format, **options)
        return buffer.getvalue()

    pixels, size = decode_sized(data("JPEG"), "pano", 3, 32, "crop")
    assert size == (1200, 900)
    assert np.abs(pixels.astype(int) - 128).max() <= 1
    for refused in (data("PNG"), data("JPEG", progressive=True)):  # these need all their pixels in memory
        with pytest.raises(DataError, match=r"1,080,000 pixels; decoding more than 100,000 pixels"):
            decode_sized(refused, "pano", 3, 32, "crop")
    with pytest.raises(DataError, match="more than 100,000 pixels"):
        decode_sized(data("JPEG"), "pano", 3, 600, "crop")  # twice that is more than it has


@pytest.mark.parametrize("mode", ["La", "RGBa", "LA", "PA", "YCbCr", "HSV", "LAB", "CMYK", "1", "I;16", "I;16B"])
def test_pillow_images_of_every_mode(mode):
    assert make_square(Image.new(mode, (9, 9)), "image 0", 3, 4, "pad").shape == (3, 4, 4)
    assert make_square(Image.new("RGB", (9, 9)).convert("L"), "image 0", 1, 4, "pad").shape == (1, 4, 4)


def test_premultiplied_colours_are_divided_first():
    half = Image.new("RGBa", (4, 4), (100, 0, 0, 128))  # red 200 at half, on white: 200 * 0.5 + 255 * 0.5
    red, green, _ = make_square(half, "image 0", 3, 4, "pad")[:, 0, 0].tolist()
    assert red == pytest.approx(227, abs=2)
    assert green == pytest.approx(127, abs=2)
