"""Archives that are encrypted, inflated, cut short, nested, nearly empty, or reach outside: one sentence, no file."""

import bz2
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from test_get_data import tar_of, zip_of

from fewshot.datasets.download import Item, fetch
from fewshot.errors import DataError

INSIDE = {"set/train": b"train"}


def encrypt(archive: bytes) -> bytes:
    """Mark each member of a zip archive as encrypted, in its own header and in the directory."""
    changed = bytearray(archive)
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = changed.find(signature)
        while at >= 0:
            changed[at + place] |= 1
            at = changed.find(signature, at + 4)
    return bytes(changed)


def zip_deflated(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def claim_size(archive: bytes, n_bytes: int) -> bytes:
    """Let the directory of a zip archive claim another size of its first member."""
    changed = bytearray(archive)
    at = changed.find(b"PK\1\2")
    struct.pack_into("<I", changed, at + 24, n_bytes)
    return bytes(changed)


def link_out(kind: bytes, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("set/link")
        member.type, member.linkname = kind, target
        archive.addfile(member)
        inside = tarfile.TarInfo("set/link/evil")
        inside.size = 4
        archive.addfile(inside, io.BytesIO(b"evil"))
    return buffer.getvalue()


def claim_in_tar(n_bytes: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w"):
        member = tarfile.TarInfo("set/train")
        member.size = n_bytes
        buffer.write(member.tobuf(tarfile.GNU_FORMAT))
    return buffer.getvalue()


WHOLE = zip_deflated({"set/train": os.urandom(5000)})
TARRED = tar_of({"set/train": os.urandom(5000)})
ARCHIVES: dict[str, tuple[bytes, str]] = {
    "encrypted": (encrypt(zip_of(INSIDE)), "is encrypted"),
    "zip that claims a lot": (claim_size(zip_of(INSIDE), 0xFFFF_FFF0), "would fill 4,294,967,280 bytes"),
    "tar that claims a lot": (claim_in_tar(1 << 40), "no readable archive .unexpected end of data"),
    "zip with an absolute name": (zip_of({"/tmp/fewshot-evil": b"evil"}), "has 0 folders set"),
    "zip with ..": (zip_of({"../../fewshot-evil": b"evil"}), "has 0 folders set"),
    "tar with an absolute name": (tar_of({"/tmp/fewshot-evil": b"evil"}), "would lie outside of the folder"),
    "tar with ..": (tar_of({"../../fewshot-evil": b"evil"}), "would lie outside of the folder"),
    "symbolic link out": (link_out(tarfile.SYMTYPE, "/tmp"), "neither a file nor a folder"),
    "hard link out": (link_out(tarfile.LNKTYPE, "/etc/hostname"), "neither a file nor a folder"),
    "device": (link_out(tarfile.CHRTYPE, ""), "neither a file nor a folder"),
    "empty zip": (zip_of({}), "has 0 folders set"),
    "empty tar": (tar_of({}), "has 0 folders set"),
    "empty": (b"", "no readable archive"),
    "nested": (zip_of({"other.zip": zip_of(INSIDE)}), "has 0 folders set"),
    "nested under its name": (zip_of({"set.zip": zip_of(INSIDE)}), "a folder is expected"),
    "two folders": (zip_of({"set-a/x": b"", "set-b/x": b""}), "has 2 folders set"),
    "zip cut short": (WHOLE[: len(WHOLE) // 2], "no readable archive"),
    "zip without its end": (WHOLE[:-1], "no readable archive"),
    "tar cut short": (TARRED[: len(TARRED) // 2], "no readable archive"),
    "bzip2 cut short": (bz2.compress(TARRED)[:-100], "no readable archive"),
    "zip of another method": (zip_deflated(INSIDE).replace(b"\x08\0", b"\x63\0"), "no readable archive"),
    "long names": (zip_of({"set/" + "n" * 5000: b""}), "could not be fetched"),
    "a file where a folder is": (zip_of({"set": b"", "set/train": b"train"}), "could not be fetched"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_fetched_archive(tmp_path: Path, name: str):
    content, says = ARCHIVES[name]
    (tmp_path / "served").write_bytes(content)
    root = tmp_path / "deep" / "root"
    item = Item("set/", n_images=1, url=(tmp_path / "served").as_uri(), inner="set*")
    with pytest.raises(DataError, match=says) as caught:
        fetch(root, item)
    assert "\n" not in str(caught.value)
    assert str(item.url) in str(caught.value)
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/fewshot-evil").exists()
    assert os.listdir(tmp_path) == ["served"]  # nothing is left behind
