"""The registry checks the names and types of all options before anything is created."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from fewshot import BACKBONES, DATASETS, METHODS, create_backbone, create_method, load_dataset
from fewshot.config import ExperimentConfig, PretrainExperimentConfig
from fewshot.errors import ConfigError, UnknownNameError
from fewshot.experiments.options import check_options
from fewshot.images.augment import make_augmentation
from fewshot.registry import Registry, describe_type, fits

COLOURS = Registry("colour", n_given=1)


@COLOURS.register("red")
class Red:
    """A red thing.

    More about it.

    Args:
        place: where it is, which is no option.
        depth: how deep it is,
            in metres.
        names: of it.

    Returns:
        nothing: that is an option.
    """

    def __init__(self, place: str, depth: float = 1.0, names: Sequence[str] = (), kind: "Literal['a', 'b']" = "a"):
        self.held = (place, depth, names, kind)


COLOURS.register("dark-red", partial(Red, depth=3.0), "red, and deep")


def test_what_is_registered_says_its_options_with_types_defaults_and_texts():
    known = COLOURS.options("red").known
    assert list(known) == ["depth", "names", "kind"]
    assert (known["depth"].type, known["depth"].default, known["depth"].text) == (
        float,
        1.0,
        "how deep it is, in metres.",
    )
    assert (known["names"].text, known["kind"].text) == ("of it.", "")
    assert known["kind"].type == Literal["a", "b"]
    assert COLOURS.options("dark_red").known["depth"].default == 3.0
    assert COLOURS.options("dark-red").known["depth"].text == "how deep it is, in metres."
    assert (COLOURS.summary("red"), COLOURS.summary("dark-red")) == ("A red thing.", "red, and deep")


def test_create_makes_it_of_what_is_given_and_of_the_options():
    assert COLOURS.create("red", "here", depth=2, kind="b").held == ("here", 2, (), "b")
    assert COLOURS.create("dark-red", "here").held == ("here", 3.0, (), "a")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"deph": 1.0}, UnknownNameError, r"unknown option of colour 'red': 'deph'. Did you mean 'depth'\? Known: d"),
        ({"place": "x"}, UnknownNameError, "unknown option of colour 'red': 'place'"),
        ({"depth": "2"}, ConfigError, r"colour 'red': depth must be a number, got '2'"),
        ({"depth": True}, ConfigError, r"colour 'red': depth must be a number, got True"),
        ({"names": "abc"}, ConfigError, r"names must be a list of texts, got 'abc'"),
        ({"names": ["a", 1]}, ConfigError, r"names must be a list of texts, got \['a', 1\]"),
        ({"kind": "c"}, ConfigError, r"kind must be one of a, b, got 'c'"),
        ({"depth": float("nan")}, ConfigError, r"colour 'red': depth must be finite, got nan"),
        ({"depth": -np.float32("inf")}, ConfigError, r"colour 'red': depth must be finite, got .*-inf"),
        ({"sizes": [1.0, float("inf")]}, ConfigError, r"sizes must be finite, got \[1.0, inf\]"),
        ({"limits": {"up": float("nan")}}, ConfigError, r"limits must be finite, got \{'up': nan\}"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_before_anything_is_made(options, error, words):
    registry, made = Registry("colour", n_given=1), []

    @registry.register("red")
    def red(
        place: str, depth: float = 1.0, names: Sequence[str] = (), kind: Literal["a", "b"] = "a",
        sizes: Sequence[float] = (), limits: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        made.append(place)

    registry.create("red", "here", depth=2)
    with pytest.raises(error, match=words):
        registry.create("red", "there", **options)
    assert made == ["here"]


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "words"),
    [
        (int, [1, np.int64(2)], [1.0, True, "1", None], "a whole number"),
        (float, [1, 1.5, np.float32(2)], [True, "1.5"], "a number"),
        (bool, [True], [1, "true"], "true or false"),
        (int | None, [None, 3], ["null", 3.5], "a whole number or null"),
        (Literal[1, 2], [1], [True, 3, "1"], "one of 1, 2"),
        (str | Path | None, ["a", Path("a"), None], [3], "text or a path or null"),
        (tuple[int, int], [(1, 2), [1, 2]], [[1], [1, 2.5], 3], "a list of 2: a whole number, a whole number"),
        (tuple[int, ...], [(), [1, 2, 3]], [["a"]], "a list of whole numbers"),
        (Mapping[str, float | bool], [{}, {"a": 1, "b": True}], [{"a": "x"}, [1]], "a mapping of names to values"),
        (dict[str, Any], [{"a": "x"}], ["a"], "a mapping of names to values"),
        (Any, [1, None, "x"], [], "any value"),
        ("SomethingThatOnlyTypeCheckersKnow", [1], [], "any value"),
    ],
)
def test_which_values_are_of_a_type_and_how_it_is_called(kind, right, wrong, words):
    assert [value for value in right if not fits(value, kind)] == []
    assert [value for value in wrong if fits(value, kind)] == []
    assert describe_type(kind) == words


def test_the_defaults_of_everything_that_is_registered_are_of_their_types():
    """This also finds annotations that the check misunderstands."""
    odd = [
        f"{registry.kind} {name}: {option.name}"
        for registry in (METHODS, BACKBONES, DATASETS)
        for name in registry.names()
        for option in registry.options(name).known.values()
        if option.default is not option.__dataclass_fields__["default"].default
        and not fits(option.default, option.type)
    ]
    assert odd == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: create_method("maml", None, inner_step=3), "method 'maml': 'inner_step'. Did you mean 'inner_steps'"),
        (lambda: create_method("maml", None, inner_lr=float("nan")), "method 'maml': inner_lr must be finite, got nan"),
        (lambda: make_augmentation({"scale": float("inf")}), "augmentation: scale must be finite, got inf"),
        (lambda: create_method("maml", None, order="2"), "method 'maml': order must be one of 1, 2, got '2'"),
        (lambda: create_backbone("conv4", depth="4"), "backbone 'conv4': depth must be a whole number, got '4'"),
        (lambda: create_backbone("conv4", views={"turn": 2}), "option of views: 'turn'. Did you mean 'turns'"),
        (lambda: create_backbone("timm/resnet18", mean="x"), "'timm/resnet18': mean must be a list of numbers or null"),
        (lambda: load_dataset("folder", "all", "/nowhere", size_px=8.5), "'folder': size_px must be a whole number"),
        (lambda: make_augmentation({"spin": 3}), "option of augmentation: 'spin'"),
        (lambda: make_augmentation({"flip": 1}), "augmentation: flip must be true or false, got 1"),
    ],
)  # fmt: skip
def test_every_kind_of_thing_is_checked(make, words):
    with pytest.raises((UnknownNameError, ConfigError), match=words):
        make()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "protonett"}, "unknown method 'protonett'"),
        ({"method_options": {"temperature": "warm"}}, "method 'protonet': temperature must be a number, got 'warm'"),
        ({"test_variants": {"hot": {"temperatur": 2.0, "n_query": 3}}}, "'temperatur'. Did you mean 'temperature'"),
        ({"backbone_options": {"n_filter": 3}}, "'n_filter'. Did you mean 'n_filters'"),
        ({"backbone_options": {"views": {"turns": "x"}}}, "views: turns must be a whole number, got 'x'"),
        ({"dataset_options": {"image_px": "28"}}, "data set 'glyphs': image_px must be a whole number, got '28'"),
        ({"test_dataset": "cub", "test_dataset_options": {"crop": True}}, "option of data set 'cub': 'crop'"),
        ({"test_also": {"few": {"n_writer": 3}}}, "'n_writer'. Did you mean 'n_writers'"),
        ({"augmentation": {"scale": "big"}}, "augmentation: scale must be a number, got 'big'"),
    ],
)
def test_a_whole_configuration_is_checked_without_any_data(values, words):
    check_options(ExperimentConfig(test_variants={"few": {"temperature": 2, "n_query": "shots"}}))
    with pytest.raises((UnknownNameError, ConfigError), match=words):
        check_options(ExperimentConfig(**values))
    if not {"method", "method_options", "test_variants"} & values.keys():
        with pytest.raises((UnknownNameError, ConfigError), match=words):
            check_options(PretrainExperimentConfig(**values))
