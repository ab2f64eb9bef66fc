"""Plugins: a user's own Python files, which register methods, data sets and backbones when they are imported."""

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import fewshot
from fewshot.errors import ConfigError
from fewshot.registry import undo_registrations_on_error

REGISTRIES = ("METHODS", "BACKBONES", "DATASETS")
_loaded: dict[str, str] = {}  # from the name of each loaded file or module to the hash of its source


def load_plugins(plugins: Iterable[str | Path]) -> None:
    """Import the user's own files, which register methods, data sets and backbones.

    A file of a name that is loaded already is not imported again. So a run that names `OLD/PLACE/mine.py` finds its
    plugin after `--plugins NEW/PLACE/mine.py`, even if the old file no longer exists. A plugin that raises an error
    registers nothing.

    Args:
        plugins: each the path of a .py file, or the name of a module or package that Python can import.

    Raises:
        ConfigError: for a plugin that does not exist, that raises an error, or whose source differs from that of a
            loaded plugin of the same name.
    """
    for plugin in map(str, plugins):
        if not plugin.endswith(".py"):
            _load(plugin, _find_module(plugin))
        elif Path(plugin).is_file():
            _load(Path(plugin).name, Path(plugin))
        elif Path(plugin).name not in _loaded:
            raise ConfigError(
                f"plugins: there is no file {plugin} (from the folder {Path.cwd()}); if it was moved, name its new "
                "place with --plugins"
            )


def list_loaded_plugins() -> dict[str, str]:
    """A hash of the source of each loaded plugin, by the name of its file or module."""
    return dict(sorted(_loaded.items()))


def _find_module(name: str) -> Path:
    """The source file of a module, or the folder of a package; the current folder is searched last."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that it hides no installed package
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).exists():
        raise ConfigError(
            f"plugins: there is no module {name!r} that Python can import; to name a file, write its suffix .py too"
        )
    origin = Path(spec.origin)
    return origin.parent if spec.submodule_search_locations else origin


def _load(name: str, source: Path) -> None:
    found = _digest(source)
    if name in _loaded:
        if _loaded[name] != found:
            raise ConfigError(
                f"plugins: {source} differs from the {name} that is loaded already; rename one of them, or start "
                "Python anew"
            )
        return
    for registry in REGISTRIES:
        getattr(fewshot, registry)  # registers this package's own names first: an error below removes later ones only
    try:
        with undo_registrations_on_error():
            if source.suffix == ".py" and name.endswith(".py"):
                _import_file(source)
            else:
                importlib.import_module(name)
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}, line {place.lineno}"
        raise ConfigError(f"plugins: {source} cannot be imported: {type(error).__name__}: {error} ({where})") from error
    _loaded[name] = found


def _import_file(path: Path) -> ModuleType:
    name = f"fewshot_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no Python source: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look up the module of a class there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _digest(source: Path) -> str:
    """A hash of a file, or of all Python files of a package."""
    files = sorted(source.rglob("*.py")) if source.is_dir() else [source]
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(os.fsencode(file.relative_to(source.parent).as_posix()) + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
