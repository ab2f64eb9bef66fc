"""YAML files of options that anybody may have written: each mistake and each trap is one sentence."""

import os

import pytest

from fewshot import cli
from fewshot.config import ExperimentConfig
from fewshot.config.recipes import read_recipe
from fewshot.config.yaml_files import read_options
from fewshot.errors import ConfigError

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
TRAPS = {
    "a billion laughs": (LAUGHS, "it stands for [0-9,]+ values, at most 20,000 are read"),
    "holds itself": ("dataset_options: &a {x: *a}\n", "line 1 holds itself"),
    "a list that holds itself": ("dataset: x\ndataset_options: {q: &a [*a]}\n", "line 2 holds itself"),
    "nested": (f"dataset_options: {'[' * 1200}{']' * 1200}\n", "nested too deeply"),
    "latin-1": ("dataset: café\n".encode("latin-1"), "no YAML file: 'utf-8' codec"),
    "UTF-16": ("dataset: x\n".encode("utf-16"), "no YAML file: 'utf-8' codec"),
    "zero byte": ("dataset: a\0b\n", "no YAML file"),
    "twice": ("lr: 1\nmax_steps: 3\nlr: 2\n", "the key 'lr' stands in line 1 and again in line 3"),
    "twice within": (
        "dataset_options: {size_px: 1, size_px: 2}\n",
        "the key 'size_px' stands in line 1 and again in line 1",
    ),
    "impossible date": ("dataset: 2020-13-45\n", "no YAML file: month must be in 1..12"),
    "number of 5000 digits": (f"seed: {'9' * 5000}\n", "no YAML file"),
    "no truth": ("resume: !!bool perhaps\n", "no YAML file"),
    "code": ("dataset: !!python/object/apply:os.system [true]\n", "no YAML file: could not determine a constructor"),
    "large": ("# " + "x" * (1 << 18), "bytes, too many for a file of options"),
    "empty": ("", "must map names of options to values"),
    "a list": ("- 1\n", "must map names of options to values"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_each_trap_is_one_sentence_at_once(tmp_path, name):
    text, says = TRAPS[name]
    path = tmp_path / "options.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (read_options, read_recipe, lambda path: cli.parse(ExperimentConfig, "", ["--config", str(path)])):
        with pytest.raises(ConfigError, match=says) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, says in ((tmp_path / "pipe.yaml", "pipe"), (tmp_path, "folder|directory"), (tmp_path / "no", "No such")):
        with pytest.raises(ConfigError, match=says):
            read_options(path)


def test_aliases_merges_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n")
    assert read_options(path) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": [{"x": 1, "y": 2}, {"x": 1, "y": 2}],
    }


@pytest.mark.parametrize("option", ["lr: 0.1", "max_steps: 5", "augmentation: {flip: true}", "schedule: constant"])
def test_a_row_must_not_change_the_training(tmp_path, option):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"run_dir: x\nrows: {{baseline: {{{option}}}}}\n")
    with pytest.raises(ConfigError, match=f"the row baseline cannot set {option.split(':')[0]}: a row trains nothing"):
        read_recipe(path)


@pytest.mark.parametrize("value", ["{x: *a}", "{x: [*a]}"])
def test_a_value_of_the_command_line_that_holds_itself_is_refused(value):
    with pytest.raises(ConfigError, match="on the command line holds itself"):
        cli.parse(ExperimentConfig, "", ["--dataset_options", f"&a {value}"])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--test_n_way", "[]"], "test_n_way must name at least one number"),
        (["--test_n_shot", "[]"], "test_n_shot must name at least one number"),
        (["--test_n_way", "1"], "test_n_way must be at least 2"),
        (["--test_n_query", "0"], "test_n_query must be at least 1"),
        (["--lr", "1e400"], "lr must be finite"),
    ],
)
def test_impossible_numbers_are_refused_before_anything_is_read(option, says):
    with pytest.raises(ConfigError, match=says):
        cli.parse(ExperimentConfig, "", option)
