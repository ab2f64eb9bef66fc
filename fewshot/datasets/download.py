"""Check the files of data sets on disk, and fetch those that have a public address."""

import contextlib
import hashlib
import http.client
import lzma
import os
import shutil
import struct
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from fewshot.errors import DataError
from fewshot.images.decode import ENCRYPTED
from fewshot.images.formats import is_image
from fewshot.registry import unknown_name

TIMEOUT_SECONDS = 60
CHUNK_BYTES = 1 << 20
UNREADABLE = (  # what archives raise that are damaged, or packed in a way that is not known here
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
    ValueError, OverflowError, struct.error,
)  # fmt: skip
LARGEST_UNPACKED_BYTES = 64 << 30  # of an archive: the largest set that is fetched has a fraction of that
LARGEST_RATIO = 200  # of unpacked to packed bytes: of photographs it is about 1, of our largest text about 10


@dataclass(frozen=True)
class Item:
    """A file or folder that a data set needs.

    Attributes:
        path: place below the root; a folder ends in /.
        checksums: valid checksums of a file, such as "md5:…"; one of them must match.
        files: names and checksums of files that a folder must contain.
        n_images: number of image files that a folder must contain.
        url: address of the file, or of the archive that contains the folder, if no login is needed.
        url_checksum: published checksum of that archive.
        inner: folder in the archive that becomes `path`; * stands for any name.
        advice: where to get it if there is no `url`.
        describe: describes the content of a folder in a sentence; raises `DataError` if the content is wrong.
    """

    path: str
    checksums: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    n_images: int | None = None
    url: str | None = None
    url_checksum: str | None = None
    inner: str | None = None
    advice: str = ""
    describe: Callable[[Path], str] | None = None


@dataclass(frozen=True)
class Finding:
    """The result of checking an item: `state` is ok, differs or missing; `detail` explains it."""

    item: Item
    state: str
    detail: str


def get_data(
    needs: Mapping[str, Sequence[Sequence[Item]]],
    names: Sequence[str],
    root: Path,
    verify_only: bool,
    say: Callable[[str], None] = print,
) -> bool:
    """Check the data sets `names` (all if empty) below `root`, and fetch missing items unless `verify_only`.

    `needs` maps each data set to the items that it needs, each a list of alternatives, of which the first is fetched.
    `say` is called with one line for each. Returns True if everything is there as published. Existing files are never
    replaced. Raises `UnknownNameError` for an unknown data set.
    """
    for name in names:
        if name not in needs:
            raise unknown_name("data set to fetch", name, needs)
    complete = True
    for name in dict.fromkeys(names) or needs:
        say(name)
        for alternatives in needs[name]:
            finding = _choose_best(root, alternatives)
            if finding.state == "missing" and finding.item.url and not verify_only:
                try:
                    fetch(root, finding.item)
                    finding = inspect(root, finding.item)
                except DataError as error:
                    finding = replace(finding, detail=str(error))
            again = "; move it away to fetch it again" if finding.state == "differs" else ""
            say(f"  {finding.state:8} {root / finding.item.path}: {finding.detail}{again}")
            complete = complete and finding.state == "ok"
    return complete


def _choose_best(root: Path, alternatives: Sequence[Item]) -> Finding:
    """Choose an alternative that is as published, else one that exists, else the first."""
    findings = [inspect(root, item) for item in alternatives]
    best = min(findings, key=lambda finding: ("ok", "differs", "missing").index(finding.state))
    if best.state != "missing":
        return best
    others = "".join(f"; {root / item.path} would do as well" for item in alternatives[1:])
    return replace(best, detail=best.detail + others)


def inspect(root: Path, item: Item) -> Finding:
    """Compare the file or folder of an item with what is published."""
    path = root / item.path
    is_folder = item.path.endswith("/")
    if not path.exists():
        source = f"{item.url}{', unpacked' if item.inner else ''}" if item.url else item.advice
        return Finding(item, "missing", f"put it there from {source}")
    if path.is_dir() != is_folder:
        return Finding(item, "differs", f"a {'folder' if is_folder else 'file'} is expected")
    if is_folder and item.describe is not None:
        try:
            return Finding(item, "ok", item.describe(path))
        except DataError as error:
            return Finding(item, "differs", str(error))
    if is_folder:
        return _inspect_folder(path, item)
    found = {kind: _compute_checksum(path, kind) for kind in {"sha256", *(c.split(":")[0] for c in item.checksums)}}
    size = f"{path.stat().st_size:,} bytes, {', '.join(sorted(found.values()))}"
    if not item.checksums:
        return Finding(item, "ok", f"{size} (no checksum is published)")
    if set(found.values()) & set(item.checksums):
        return Finding(item, "ok", f"{size}, as published")
    return Finding(item, "differs", f"{size}, published is {' or '.join(item.checksums)}")


def _inspect_folder(path: Path, item: Item) -> Finding:
    for name, expected in item.files.items():
        there = (path / name).is_file()
        found = _compute_checksum(path / name, expected.split(":")[0]) if there else "missing"
        if found != expected:
            return Finding(item, "differs", f"its file {name} is {found}, published is {expected}")
    if item.files:
        return Finding(item, "ok", f"{len(item.files)} files, checksums as published")
    n_images = sum(is_image(name) for _, _, names in os.walk(path) for name in names)
    if n_images == 0 or item.n_images not in (None, n_images):
        return Finding(item, "differs", f"{n_images:,} images in it, published are {item.n_images or 'more'}")
    return Finding(item, "ok", f"{n_images:,} images{', as published' if item.n_images else ''}")


def _compute_checksum(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, partial(hashlib.new, kind, usedforsecurity=False))
    return f"{kind}:{digest.hexdigest()}"


def fetch(root: Path, item: Item) -> None:
    """Download an item, check it, and only then move it to its place; a failure leaves nothing behind."""
    target = root / item.path
    what = f"unpack it so that the archive's folder {item.inner} lies" if item.inner else "put it"
    by_hand = f"try again, or fetch it by hand and {what} at {target}"
    folders = [folder for folder in target.parents if not folder.exists()]  # nearest first
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as temporary:
            download = Path(temporary) / "download"
            _download(item, download)
            made = _unpack(download, item) if item.inner else download
            finding = inspect(made.parent, replace(item, path=made.name + "/" * bool(item.inner)))
            if finding.state != "ok":
                raise DataError(f"what {item.url} gave is not what is published: {finding.detail}")
            os.replace(made, target)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{item.url} could not be fetched ({error}); {by_hand}") from error
    except DataError as error:
        raise DataError(f"{error}; {by_hand}") from error
    finally:
        with contextlib.suppress(OSError):  # a folder is not empty after success
            for folder in folders:
                folder.rmdir()


def _download(item: Item, path: Path) -> None:
    """Download the url of an item to `path`; raises `DataError` if it is incomplete or its checksum is wrong."""
    request = urllib.request.Request(item.url or "", headers={"User-Agent": "fewshot"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, path.open("wb") as file:
        length = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=length or None, desc=item.path, unit="B", unit_scale=True, delay=1) as bar:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
        n_bytes = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if length and n_bytes != length:
        raise DataError(f"the connection to {item.url} broke off after {n_bytes:,} of {length:,} bytes")
    if item.url_checksum and (found := _compute_checksum(path, item.url_checksum.split(":")[0])) != item.url_checksum:
        raise DataError(f"{item.url} gave {n_bytes:,} bytes with {found}, published is {item.url_checksum}")


def _refuse_bomb(n_bytes: int, archive: Path, item: Item) -> None:
    """Raise `DataError` if the files of an archive would fill the disk, or are far larger than the archive."""
    free = shutil.disk_usage(archive.parent).free
    if n_bytes > min(free, LARGEST_UNPACKED_BYTES, max(1 << 30, LARGEST_RATIO * archive.stat().st_size)):
        raise DataError(
            f"what {item.url} gave would fill {n_bytes:,} bytes once unpacked, from {archive.stat().st_size:,}; "
            f"{free:,} bytes are free there"
        )


def _refuse_unsafe(tar_file: tarfile.TarFile, place: Path) -> None:
    """Raise `tarfile.TarError` for a member that is no plain file or folder, or would be unpacked outside `place`."""
    for member in tar_file:
        if not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name} is neither a file nor a folder")
        if not (place / member.name).resolve().is_relative_to(place.resolve()):
            raise tarfile.TarError(f"{member.name} would lie outside of the folder")


def _unpack(archive: Path, item: Item) -> Path:
    """Unpack an archive beside it, and return the folder `inner`."""
    place = archive.parent / "unpacked"
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zip_file:
                members = zip_file.infolist()
                if any(member.flag_bits & ENCRYPTED for member in members):
                    raise DataError(f"what {item.url} gave is encrypted")
                _refuse_bomb(sum(member.file_size for member in members), archive, item)
                zip_file.extractall(place)
        else:
            with tarfile.open(archive) as tar_file:
                _refuse_unsafe(tar_file, place)
                _refuse_bomb(sum(member.size for member in tar_file), archive, item)
                tar_file.extraction_filter = getattr(tarfile, "data_filter", None)  # not before Python 3.11.4
                tar_file.extractall(place)
    except DataError:
        raise
    except UNREADABLE as error:
        what = " ".join(str(error).split())  # tarfile names each way that it tried in a line
        raise DataError(f"what {item.url} gave is no readable archive ({what})") from error
    found = sorted(place.glob(item.inner or ""))
    if len(found) != 1:
        raise DataError(f"what {item.url} gave has {len(found)} folders {item.inner}, expected one")
    return found[0]
