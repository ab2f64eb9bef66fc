"""Two hundred kinds of files: each is the picture, or one sentence, whichever way it comes in and whatever asks."""

import io
import re

import numpy as np
import pytest
from odd_images import list_all_kinds
from pictures import HEIGHT, PICTURE, WIDTH, save
from PIL import Image

from fewshot import FewShotClassifier
from fewshot.errors import DataError
from fewshot.estimator.reading import Reader
from fewshot.photographs.encoding import encode_photographs
from fewshot.photographs.inspection.check import check_folder

KINDS = list_all_kinds()
REFUSED = {name for name, kind in KINDS.items() if kind.picture is None}
ROUNDING = 4  # of 255: between a JPEG decoded at a fraction of its size and one decoded in full
pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged files


def read(image: object) -> np.ndarray | str:
    """The pixels (height, width, 3) of an image, or the error."""
    pixels, bad = Reader(3, WIDTH, "pad").read([image])
    top = (WIDTH - HEIGHT) // 2
    return bad[0] if bad else pixels[0].permute(1, 2, 0).numpy()[top : top + HEIGHT]


@pytest.mark.parametrize("name", KINDS)
def test_each_way_in_gives_the_picture_or_one_sentence(name, tmp_path):
    kind = KINDS[name]
    path = tmp_path / "IMG_1.jpg"  # whatever it is: formats are known by their content
    path.write_bytes(kind.data)
    found = read(path)
    if kind.picture is None:
        assert isinstance(found, str), "no error"
        assert re.search(kind.says, found)
        assert found.startswith(f"{path}: ")
        assert "\n" not in found
    else:
        assert not isinstance(found, str), found
        assert np.abs(found.astype(int) - kind.picture).mean() <= kind.off_by
    for other in (kind.data, io.BytesIO(kind.data)):
        again = read(other)
        if isinstance(found, str):
            assert str(again) == found.replace(str(path), "image 0")
        else:
            np.testing.assert_array_equal(again, found)
    try:
        opened = Image.open(io.BytesIO(kind.data))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return
    if opened.format in ("ICO", "TGA", "PCX", "DDS", "SPIDER", "EPS"):  # what Pillow can open is an image
        return
    again = read(opened)
    assert isinstance(again, str) == isinstance(found, str), again
    if not isinstance(found, str):
        np.testing.assert_allclose(np.asarray(again, int), found, rtol=0, atol=ROUNDING)


def test_fit_predict_and_check_refuse_the_same_files(tmp_path):
    for number, kind in enumerate(KINDS.values()):
        path = tmp_path / "support" / "a" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kind.data)
    rng = np.random.default_rng(0)
    for number in range(2):
        path = tmp_path / "support" / "b" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(save(rng.integers(0, 256, PICTURE.shape, dtype=np.uint8), "PNG"))
    (unreadable,) = (f for f in check_folder(tmp_path / "support").findings if f.kind == "unreadable")
    assert {name for flagged in unreadable.flagged for name in flagged.files} == {
        f"a/{number}.jpg" for number, name in enumerate(KINDS) if name in REFUSED
    }
    make = FewShotClassifier("conv4", pretrained=False, size_px=16, backbone_options={"n_filters": 4})
    with pytest.raises(DataError, match=rf"^{len(REFUSED)} of {len(KINDS) + 2} images cannot be used: "):
        make.fit_folder(tmp_path / "support")
    images = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(4)]
    classifier = make.fit(images, ["a", "a", "b", "b"])
    asked = encode_photographs(classifier, tmp_path / "support" / "a")
    assert asked.n_bad == len(REFUSED)
    assert len(asked.paths) == len(KINDS) - len(REFUSED)
