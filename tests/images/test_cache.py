"""The cache of packed stores and features: what is used again, what shares space, and what `--clear_cache` removes."""

import fcntl
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot.commands import main
from fewshot.datasets import ImageSet
from fewshot.errors import DataError
from fewshot.evaluation.feature_store import load_or_make
from fewshot.images import store
from fewshot.images.cache import clear_cache, list_kept
from fewshot.images.listing import ImageFile, make_image_set
from fewshot.images.store import lock, open_store

DAY_S = 86_400


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pack(key: str, value: int = 7, name: str = "set") -> store.PackedStore:
    return open_store(name, key, [value, value + 1], lambda v: np.full((1, 2, 2), v, np.uint8), (1, 2, 2))


def stores(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir())


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY_S,) * 2)


def test_opening_a_store_notes_when_it_was_used(place):
    pack("a")
    (folder,) = stores(place)
    age(folder, 50)
    assert list_kept()[0].used < time.time() - 49 * DAY_S
    pack("a")
    assert list_kept()[0].used > time.time() - 60


def test_stores_of_the_same_pixels_share_their_file(place):
    pack("a"), pack("a again"), pack("others", value=3), pack("a", name="set-of-another-name")
    inodes = {path.name: (path / "images.u8").stat().st_ino for path in stores(place)}
    assert len(inodes) == 4
    assert len(set(inodes.values())) == 3
    assert sum(kept.n_bytes for kept in list_kept()) < sum(f.stat().st_size for f in place.glob("*/*"))
    assert np.array_equal(pack("a again").images, pack("a").images)
    assert pack("others", value=3).images[0, 0, 0, 0] == 3


def test_what_is_used_stays(place):
    held, unused = pack("a"), pack("b", value=30)
    path = Path(unused.images.filename).parent
    del unused
    for folder in stores(place):
        age(folder, 40)
    assert list(clear_cache(41)) == []
    found = {kept.path: reason for kept, reason in clear_cache(30)}
    assert found == {path: "", Path(held.images.filename).parent: "in use"}
    assert stores(place) == [Path(held.images.filename).parent]
    assert held.images[1, 0, 0, 0] == 8
    del held
    assert [reason for _, reason in clear_cache(30)] == [""]
    assert list(place.iterdir()) == []  # locks too
    assert pack("a").images[0, 0, 0, 0] == 7  # made again


def test_a_store_that_is_open_in_another_process_stays(place):
    pack("a")
    (folder,) = stores(place)
    code = (
        "import sys; from fewshot.images.store import _open; from pathlib import Path\n"
        "images = _open(Path(sys.argv[1])).images; print('open', flush=True); sys.stdin.read(); print(images.sum())"
    )
    child = subprocess.Popen([sys.executable, "-c", code, folder], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "open\n"
    assert [reason for _, reason in clear_cache(0)] == ["in use"]
    child.communicate("")
    assert [reason for _, reason in clear_cache(0)] == [""]


def test_what_is_being_built_stays_and_what_a_killed_process_left_goes(place):
    abandoned = place / ".set-0123456789ab-x_1y"
    abandoned.mkdir(parents=True)
    with lock(place / "set-0123456789ab.lock"):
        assert [reason for _, reason in clear_cache(0)] == ["in use"]
    assert abandoned.is_dir()
    assert [reason for _, reason in clear_cache(0)] == [""]
    assert list(place.iterdir()) == []


def test_a_store_that_goes_while_it_is_opened_is_made_again(place, monkeypatch):
    pack("a")
    whole, calls = store._open, []

    def lose(folder: Path) -> store.PackedStore:
        calls.append(folder)
        if len(calls) == 1:
            assert [reason for _, reason in clear_cache(0)] == [""]
        return whole(folder)

    monkeypatch.setattr(store, "_open", lose)
    assert pack("a").images[0, 0, 0, 0] == 7
    assert len(calls) == 2


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path, monkeypatch):
    path, flock = tmp_path / "a.lock", fcntl.flock

    def remove_first(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with lock(path):
        assert path.exists()
        with pytest.raises(BlockingIOError), lock(path, wait=False):
            pass


def test_features_that_are_used_stay(place):
    images = ImageSet(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), [0, 1], ["a", "b"])
    network = torch.nn.Linear(2, 2)
    load_or_make(network, images, "float32", lambda: torch.ones(2, 3))
    (kept,) = list_kept()
    age(kept.path, 50)
    load_or_make(network, images, "float32", lambda: pytest.fail("they are there"))
    assert list(clear_cache(1)) == []
    age(kept.path, 2)
    assert [reason for _, reason in clear_cache(1)] == [""]
    assert not kept.path.exists()


def test_links_to_a_folder_lead_to_one_store(place, tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (8, 8), len(name) + ord(name)).save(tmp_path / "data" / name / "1.png")
    (tmp_path / "link").symlink_to("data")
    for root in ("data", "link"):
        files = [ImageFile(name, tmp_path / root / name / "1.png") for name in ("a", "b")]
        make_image_set("s", files, 1, 8, "pad")
    assert len(stores(place)) == 1


def test_the_command_shows_and_clears(place, capsys):
    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["data", *words])
        assert left.value.code == 0
        return capsys.readouterr().out

    pack("a")
    (folder,) = stores(place)
    assert f"{folder}\n1 entry in {place}: " in call("--cache")
    assert f"0 entries in {place} removed, unused for 30 days" in call("--clear_cache", "30")
    assert folder.exists()
    assert f"{folder}\n1 entry in {place} removed" in call("--clear_cache", "0")
    assert not folder.exists()
    with pytest.raises(SystemExit):
        main(["data", "--clear_cache", "-1"])
    assert "clear_cache is a number of days, 0 or more, got -1.0" in capsys.readouterr().err


def test_a_full_cache_is_a_sentence(place):
    place.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as a full disk; Python ignores the signal SIGXFSZ
    try:
        with pytest.raises(DataError, match=r"set-.* cannot be written \(File too large\): make room .* FEWSHOT_CACHE"):
            open_store("set", "big", [1], lambda v: np.full((1, 40, 40), v, np.uint8), (1, 40, 40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not stores(place)
