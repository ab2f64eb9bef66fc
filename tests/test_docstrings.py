"""The public API has Google docstrings: `Args` names every parameter once, and no other."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import docstring_parser
import pytest

import fewshot
from fewshot import BACKBONES, DATASETS, METHODS, FewShotClassifier
from fewshot.backbones.create import FAMILIES
from fewshot.commands.declarations import COMMANDS
from fewshot.registry import unwrap

ROOT = Path(fewshot.__file__).parent
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$", re.M)
MAX_WORDS = 120  # of a docstring without sections
EXAMPLES = {"config/recipes.py"}  # the docstring of the module shows a file


def find_public() -> Iterator[tuple[str, Callable[..., Any], tuple[str, ...]]]:
    """Find every public callable: its name, the callable, and the parameters that users do not give themselves."""
    for name in fewshot.__all__:
        value = getattr(fewshot, name)
        if callable(value) and not (inspect.isclass(value) and issubclass(value, Exception)):
            yield name, value, ()
    every_backbone = ("in_channels", "input_px", "pretrained", "weights")  # documented once, by create_backbone
    given = {METHODS: ("backbone",), BACKBONES: every_backbone, DATASETS: ("root", "split")}
    given[FAMILIES] = ("name", *every_backbone)
    for registry, parameters in given.items():
        for name in registry.names():
            yield f"{registry.kind} {name}", unwrap(registry[name]), parameters
    for name, command in COMMANDS.items():
        yield f"command {name}", import_module(f"fewshot.commands.{command.module or name}").run, ()
    for kind in FewShotClassifier.__mro__:
        for name, value in vars(kind).items():
            value = getattr(value, "__func__", value)  # of a class method
            if kind.__module__.startswith("fewshot") and inspect.isfunction(value) and not name.startswith("_"):
                yield f"FewShotClassifier.{name}", value, ("self", "cls")


PUBLIC = {name: (value, given) for name, value, given in find_public()}


def list_parameters(value: Callable[..., Any]) -> dict[str, bool]:
    """List the parameters of a function or constructor, and whether each must be documented."""
    if getattr(value, "_is_protocol", False):
        return {}
    return {p.name: p.kind not in VARIABLE for p in inspect.signature(value).parameters.values()}


def list_documented(value: Callable[..., Any]) -> list[str]:
    """List the names in `Args` of the docstring and of the constructor's; of options, whichever field has a docstring.

    A parameter that a class does not document may be documented by one of its bases in fewshot.
    """
    if is_dataclass(value) and "Args:" not in (inspect.getdoc(value) or ""):
        kinds = [kind for kind in value.__mro__ if is_dataclass(kind)]
        return [p.arg_name for kind in kinds for p in docstring_parser.parse_from_object(kind).params]
    docs = [inspect.getdoc(value)]
    if inspect.isclass(value) and value.__init__.__doc__ and "__init__" in vars(value):
        docs.append(inspect.cleandoc(value.__init__.__doc__))  # getdoc would inherit a parent's docstring
    found = [docstring_parser.parse(doc, docstring_parser.DocstringStyle.GOOGLE) for doc in docs if doc]
    own = [p.arg_name for parsed in found for p in parsed.params if p.args[0] == "param"]
    bases = [base for base in getattr(value, "__bases__", ()) if base.__module__.startswith("fewshot")]
    inherited = {name for base in bases for name in list_documented(base)} & list_parameters(value).keys()
    return [*own, *sorted(inherited.difference(own))]


def find_differences(value: Callable[..., Any], given: tuple[str, ...] = ()) -> list[str]:
    """Describe how `Args` and the signature differ."""
    documented, parameters = list_documented(value), list_parameters(value)
    return [
        *(f"{name} is named {documented.count(name)} times" for name in parameters if documented.count(name) > 1),
        *(f"{name} is no parameter" for name in documented if name not in parameters),
        *(f"{name} is not named" for name, asked in parameters.items() if asked and name not in (*documented, *given)),
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_args_are_the_parameters(name):
    assert find_differences(*PUBLIC[name]) == []


@pytest.mark.parametrize("name", PUBLIC)
def test_the_first_line_is_a_sentence(name):
    summary = inspect.getdoc(PUBLIC[name][0]).partition("\n")
    assert summary[0].endswith((".", ":")), summary[0]
    assert summary[2][:1] in ("", "\n"), "a blank line parts it from the rest"


def test_differences_are_found():
    def draw(n: int, seed: int, *others: int, **options: int) -> None:
        """Draw.

        Args:
            n: how many,
                none for 0.
            n: twice.
            shape: (n,).
            options: further ones.

        Returns:
            nothing: at all.
        """

    assert find_differences(draw) == ["n is named 2 times", "shape is no parameter", "seed is not named"]
    assert find_differences(draw, ("seed",)) == ["n is named 2 times", "shape is no parameter"]


def test_what_a_base_class_documents_counts_for_its_parameters():
    assert {"order", "inner_lr", "tasks_at_once"} <= set(list_documented(METHODS["maml"]))
    assert "name" not in list_documented(METHODS["maml"])  # a parameter of the base class alone
    assert METHODS.options("anil").known["inner_lr"].text == "learning rate of these steps."
    assert METHODS.options("anil").known["transductive"].text.startswith("normalise by the statistics of support and")


def list_long(source: str) -> list[str]:
    """List the functions and classes whose docstring has more than `MAX_WORDS` words and no sections."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    documented = [
        (node, ast.get_docstring(node) or "") for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)
    ]
    return [
        getattr(node, "name", "the module")
        for node, text in documented
        if len(text.split()) > MAX_WORDS and not SECTION.search(text)
    ]


def test_no_docstring_is_long_without_sections():
    files = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    long = {file: names for file, text in files.items() if file not in EXAMPLES and (names := list_long(text))}
    assert long == {}


def test_long_docstrings_are_found():
    words = "word " * MAX_WORDS
    assert list_long(f'def f():\n    """{words}more."""\ndef g():\n    """{words}"""\n') == ["f"]
    assert list_long(f'"""{words}more."""\n') == ["the module"]
    assert list_long(f'def f(a):\n    """{words}more.\n\n    Args:\n        a: b.\n    """\n') == []
