"""Imports point downward only: the architecture, read from the code."""

import ast
from pathlib import Path

import fewshot

ROOT = Path(fewshot.__file__).parent
FLOORS = [
    {
        "errors",
        "registry",
        "seeding",
        "statistics",
        "config",
        "cli",
        "parallel",
        "precision",
        "provenance",
        "memory",
        "memory_format",
        "evaluation_mode",
        "textfile",
        "transfer",
        "circles",
    },
    {"datasets"},
    {"episodes", "batches", "augment", "backbones"},
    {"methods"},
    {
        "records",
        "features",
        "feature_key",
        "feature_store",
        "evaluate",
        "checkpoint",
        "run_folder",
        "tracking",
        "optimization",
        "stream",
        "leakage",
        "learner",
        "interruption",
        "validation",
    },
    {"train"},
    {"experiment", "stages", "report", "classifier", "photographs"},
    {"reproduction", "comparison", "guard", "figures", "benchmarks"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


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


def rooms() -> dict[str, set[str]]:
    """Each module or package of the first level, with the others of that level that it imports."""
    edges: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room != "__init__":
            edges.setdefault(room, set()).update(name.split(".")[0] for name in imported(path))
    return {room: others - {room} for room, others in edges.items()}


def test_every_module_has_a_floor():
    assert set(rooms()) <= set(FLOOR)


def test_no_import_points_upward():
    upward = [
        f"{room} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]})"
        for room, others in rooms().items()
        for other in others
        if FLOOR[other] > FLOOR[room]
    ]
    assert upward == []


def test_episodes_and_backbones_do_not_know_each_other():
    assert "backbones" not in rooms()["episodes"]
    assert "episodes" not in rooms()["backbones"]


def test_methods_know_no_data_set_and_no_concrete_backbone():
    assert not rooms()["methods"] & {"datasets", "backbones"}


def test_no_circle_within_a_floor():
    edges = rooms()
    done: set[str] = set()

    def visit(room: str, path: tuple[str, ...]) -> None:
        assert room not in path, f"imports go in a circle: {' -> '.join((*path, room))}"
        if room not in done:
            for other in edges.get(room, ()):
                visit(other, (*path, room))
            done.add(room)

    for room in edges:
        visit(room, ())


def test_library_code_chooses_no_device_and_touches_no_global_generator():
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        for word in (".cuda(", "np.random.seed", "import random\n", "np.random.rand", "np.random.choice"):
            assert word not in text, f"{path}: {word}"
        if path.name != "seeding.py":
            assert "manual_seed" not in text, path
