"""Imports point downward only: the architecture, read from the code."""

import ast
from pathlib import Path

import fewshot

ROOT = Path(fewshot.__file__).parent
FLOORS = (
    "errors", "registry", "runtime", "config", "cli",
    "images", "datasets", "backbones", "sampling", "methods", "evaluation", "training", "experiments",
    "estimator", "photographs", "reproduction", "commands", "__main__",
)  # fmt: skip
FLOOR = {name: number for number, name in enumerate(FLOORS)}


def imported(path: Path) -> set[str]:
    """The modules of fewshot that a file imports, as dotted names without `fewshot.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("fewshot.") for name in found if name.startswith("fewshot.")}


def module_name(path: Path) -> str:
    """The dotted name of a file, without `fewshot.`; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}
IMPORTS = {module: imported(path) for module, path in MODULES.items() if module}


def rooms() -> dict[str, set[str]]:
    """Each entry of `fewshot/`, with the others that it imports."""
    edges: dict[str, set[str]] = {}
    for module, names in IMPORTS.items():
        edges.setdefault(module.split(".")[0], set()).update(name.split(".")[0] for name in names)
    return {room: others - {room} for room, others in edges.items()}


def test_every_entry_has_a_floor():
    assert set(rooms()) == set(FLOORS)


def test_no_import_points_upward():
    upward = [
        f"{room} imports {other}, which stands above it"
        for room, others in rooms().items()
        for other in others
        if FLOOR[other] > FLOOR[room]
    ]
    assert upward == []


def test_sampling_and_backbones_do_not_know_each_other():
    assert "backbones" not in rooms()["sampling"]
    assert "sampling" not in rooms()["backbones"]


def test_methods_know_no_data_set_and_no_concrete_backbone():
    assert not rooms()["methods"] & {"datasets", "backbones"}


def test_no_circle_among_modules():
    """A package imports its own modules to register them, which import the package's contract: not a circle."""
    edges = {
        module: {m for name in names for m in (name, name.rpartition(".")[0]) if m in MODULES and m != module}
        for module, names in IMPORTS.items()
    }
    packages = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"imports go in a circle: {' -> '.join((*path, module))}"
        if module not in done:
            for other in edges.get(module, set()) - packages:
                visit(other, (*path, module))
            done.add(module)

    for module in edges.keys() - packages:
        visit(module, ())


def test_library_code_chooses_no_device_and_touches_no_global_generator():
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        for word in (".cuda(", "np.random.seed", "import random\n", "np.random.rand", "np.random.choice"):
            assert word not in text, f"{path}: {word}"
        if path.name != "seeding.py":
            assert "manual_seed" not in text, path
