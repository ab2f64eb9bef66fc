"""Traffic signs: tracks are groups, and only the published layout is read."""

import numpy as np
import pytest
from PIL import Image

from fewshot.datasets import load_dataset
from fewshot.errors import DataError, UnknownNameError

FRAMES, TRACKS = 7, 2


def write(root):
    """Write 43 classes of two tracks; red encodes the class, green the track, blue the frame."""
    folder = root / "gtsrb" / "GTSRB" / "Final_Training" / "Images"
    for number in range(43):
        (folder / f"{number:05d}").mkdir(parents=True)
        (folder / f"{number:05d}" / f"GT-{number:05d}.csv").write_text("Filename;Width\n")
        for track in range(TRACKS):
            for frame in range(FRAMES):
                image = Image.new("RGB", (6 + frame, 9), (number, track, frame))
                image.save(folder / f"{number:05d}" / f"{track:05d}_{frame:05d}.ppm")
    return folder


@pytest.mark.parametrize(("every", "frames"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (9, [0])])
def test_frames_tracks_and_classes(tmp_path, every, frames):
    write(tmp_path)
    images = load_dataset("gtsrb", "test", tmp_path, size_px=8, every=every)
    pixels = images.images[:, :, 4, 4].numpy()
    assert images.n_classes == 43
    assert (images.class_names[0], images.class_names[14], images.class_names[42]) == (
        "speed limit 20", "stop", "end of no overtaking by lorries",
    )  # fmt: skip
    np.testing.assert_array_equal(images.labels, pixels[:, 0])
    assert pixels[:, 2].tolist() == frames * (43 * TRACKS)
    assert len(set(images.groups.tolist())) == 43 * TRACKS  # a track's number stands for nothing in another class
    assert len(set(zip(images.groups.tolist(), pixels[:, 0], pixels[:, 1], strict=True))) == 43 * TRACKS


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "00007").rename(f / "00043"), "missing class folders: 00007; not of GTSRB: 00043"),
        (lambda f: (f / "00003" / "00000_00000.ppm").rename(f / "00003" / "sign.ppm"), r"00003: .* found sign\.ppm"),
        (lambda f: [path.unlink() for path in (f / "00009").iterdir()], r"00009: .* found none"),
        (lambda f: (f / "00003" / "00000_00000.ppm").write_bytes(b"P6"), r"00000_00000\.ppm"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    damage(write(tmp_path))
    with pytest.raises(DataError, match=message):
        load_dataset("gtsrb", "test", tmp_path, size_px=8)


def test_other_splits_and_options_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(UnknownNameError, match="'train'"):
        load_dataset("gtsrb", "train", tmp_path)
    with pytest.raises(DataError, match="every is a number of frames"):
        load_dataset("gtsrb", "test", tmp_path, every=0)
    with pytest.raises(DataError, match=r"get_data.py --dataset gtsrb"):
        load_dataset("gtsrb", "test", tmp_path / "nowhere")
