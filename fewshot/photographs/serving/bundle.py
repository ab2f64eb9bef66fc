"""`predictor.py` for a folder that stands alone: the predictor's module with what it needs of this package in one file.

Only definitions that are reached from `Predictor` are taken over, as they are written; imports from the package become
the definitions themselves. So every line has one owner, and a test holds the file to numpy, onnxruntime and pillow.
"""

import ast
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from fewshot.errors import FewShotError

PACKAGE = "fewshot"
START = "fewshot.photographs.serving.predictor"


@dataclass
class _Module:
    """A module's top level: `imports` by the name that they bind, and `definitions` in their order."""

    name: str
    doc: str
    imports: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)  # the module of the package that a name comes from
    definitions: list[tuple[set[str], set[str], str]] = field(default_factory=list)  # names, names used, text


def bundle(start: str = START) -> str:
    """The text of the module `start` with all that it needs of this package."""
    modules: dict[str, _Module] = {}
    wanted: dict[str, set[str]] = {}
    first = _read(start, modules)
    _want(start, {name for names, _, _ in first.definitions for name in names} | {""}, modules, wanted)
    kept = [module for module in _order(start, modules) if module.name in wanted]
    taken: dict[str, str] = {}
    for module in kept:
        for names, _, _ in _keep(module, wanted[module.name]):
            for name in names:
                if taken.setdefault(name, module.name) != module.name:
                    raise FewShotError(f"{name} is defined in {taken[name]} and in {module.name}: rename one of them")
    used = {name for module in kept for _, uses, _ in _keep(module, wanted[module.name]) for name in uses}
    imports = {text for module in kept for name, text in module.imports.items() if name in used}
    parts = [f'"""{first.doc}"""', "\n".join(sorted(imports, key=_sort_key))]
    parts += [text for module in kept for _, _, text in _keep(module, wanted[module.name])]
    return re.sub(r"\n{4,}", "\n\n\n", "\n\n\n".join(parts)) + "\n"


def _sort_key(statement: str) -> tuple[bool, str]:
    return not statement.startswith("import"), statement


def _keep(module: _Module, wanted: set[str]) -> list[tuple[set[str], set[str], str]]:
    return [definition for definition in module.definitions if definition[0] & wanted or not definition[0]]


def _want(name: str, names: set[str], modules: dict[str, _Module], wanted: dict[str, set[str]]) -> None:
    """Note that `names` of a module are needed, with all that they use."""
    module = _read(name, modules)
    before = wanted.setdefault(name, set())
    todo = names - before
    before |= names
    for defined, uses, _ in module.definitions:
        if not (defined & todo or (not defined and name == START)):
            continue
        own = {n for others, _, _ in module.definitions for n in others} & uses
        if own - before:
            _want(name, own, modules, wanted)
        for other in uses & module.origins.keys():
            _want(module.origins[other], {other}, modules, wanted)


def _order(start: str, modules: dict[str, _Module]) -> list[_Module]:
    """Modules in an order in which each stands after those that it imports."""
    done: dict[str, _Module] = {}

    def visit(name: str) -> None:
        for other in dict.fromkeys(modules[name].origins.values()):
            if other in modules and other not in done:
                visit(other)
        done[name] = modules[name]

    visit(start)
    return list(done.values())


def _read(name: str, modules: dict[str, _Module]) -> _Module:
    """A module, read once."""
    if name in modules:
        return modules[name]
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise FewShotError(f"there is no module {name}")
    text = Path(spec.origin).read_text(encoding="utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    module = modules[name] = _Module(name, ast.get_docstring(tree, clean=False) or "")
    end = 0
    for node in tree.body:
        start, end = end, node.end_lineno or node.lineno
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # the docstring
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                module.imports[bound] = f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
        elif isinstance(node, ast.ImportFrom):
            _note_import(module, node)
        else:
            uses = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | _names_in_texts(node)
            segment = "\n".join(lines[start:end]).strip("\n")
            module.definitions.append((_defined(node), uses, segment))
    return module


def _note_import(module: _Module, node: ast.ImportFrom) -> None:
    for alias in node.names:
        if not (node.module or "").startswith(PACKAGE):
            bound = alias.asname or alias.name
            renamed = f" as {alias.asname}" if alias.asname else ""
            module.imports[bound] = f"from {node.module} import {alias.name}{renamed}"
        elif alias.asname:
            raise FewShotError(f"{module.name} imports {alias.name} as {alias.asname}: give it its own name")
        else:
            module.origins[alias.name] = str(node.module)


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement of the top level defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _names_in_texts(node: ast.stmt) -> set[str]:
    """Names in annotations that are written as texts."""
    texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return {text for text in texts if text.isidentifier()}
