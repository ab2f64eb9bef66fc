"""The command `fewshot`: its speed, its parser, the help of every subcommand, and the cost of `import fewshot`."""

import ast
import builtins
import configparser
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import fewshot
from fewshot import cli, commands
from fewshot.commands.declarations import COMMANDS, GROUPS
from fewshot.commands.option_help import describe_named
from fewshot.config import ExperimentConfig
from fewshot.config.reproduction import DataConfig, ReproduceConfig
from fewshot.errors import ConfigError, UnknownNameError

ROOT = Path(fewshot.__file__).parents[1]
HEAVY = ("torch", "numpy", "sklearn", "scipy", "matplotlib", "timm")


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------- what is imported


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["train", "--help"], ["reproduce", "--help"], ["predict", "--help"]]
)
def test_help_imports_nothing_heavy(words):
    code = (
        "import contextlib, io, sys\nfrom fewshot.commands import main\n"
        f"with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n    main({words})\n"
        f"assert out.getvalue()\nprint([name for name in {HEAVY} if name in sys.modules])"
    )
    assert python(code).strip() == "[]"


def test_help_takes_less_than_three_tenths_of_a_second():
    """CPU seconds including Python's own start: the minimum of five runs, since the machine may be busy."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "fewshot", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize(
    ("name", "said", "policy"), [("predict", None, "PASSIVE"), ("predict", "ACTIVE", "ACTIVE"), ("train", None, None)]
)
def test_threads_sleep_while_a_command_for_photographs_waits_for_them(name, said, policy, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", said or "nothing")  # noted, so that it is restored
    if said is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    with pytest.raises(SystemExit):
        commands.execute(name, ["--help"])
    assert os.environ.get("OMP_WAIT_POLICY") == policy


def test_importing_fewshot_imports_a_name_when_it_is_used():
    code = "import sys, fewshot\nprint('torch' in sys.modules)\nfewshot.EpisodeSpec\nprint('torch' in sys.modules)"
    assert python(code).split() == ["False", "True"]


def test_type_checkers_and_python_see_the_same_names():
    tree = ast.parse(Path(fewshot.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: line.module.removeprefix("fewshot.") for line in block.body for alias in line.names}
    assert seen == fewshot._HOME
    assert sorted(seen) == sorted(fewshot.__all__)
    assert all(getattr(fewshot, name) is not None for name in fewshot.__all__)
    assert set(fewshot.__all__) <= set(dir(fewshot))
    with pytest.raises(AttributeError, match="has no attribute 'evalute'"):
        fewshot.evalute  # noqa: B018


def test_the_version_has_one_source():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["version"] == "attr: fewshot.__version__"
    assert "fewshot = fewshot.commands:main" in config["options.entry_points"]["console_scripts"]
    assert "py.typed" in config["options.package_data"]["fewshot"]
    assert (ROOT / "fewshot" / "py.typed").exists()
    assert python("from fewshot.commands import main\nmain(['--version'])").strip() == f"fewshot {fewshot.__version__}"


# ---------------------------------------------------------------- the commands


def test_every_command_is_declared_once_and_has_a_file():
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS)
    folder = Path(commands.__file__).parent
    helpers = {
        "__init__",
        "command",
        "declarations",
        "experiment",
        "option_help",
        "paper_commands",
        "photograph_commands",
        "recipes",
    }
    files = {command.module or name for name, command in COMMANDS.items()}
    assert {path.stem for path in folder.glob("*.py")} - helpers == files
    assert not files & set(vars(builtins))  # a module takes its name's place in the package
    for name, command in COMMANDS.items():
        assert len(command.examples) == 3, name
        assert f"  {name} " in commands.format_overview()


@pytest.mark.parametrize(("name", "example"), [(n, e) for n, c in COMMANDS.items() for e in c.examples])
def test_every_example_is_a_valid_command_line(name, example, tmp_path, monkeypatch):
    """Recipes are those of the repository; folders, files and plugins need not exist to be parsed."""
    monkeypatch.chdir(ROOT)
    program, subcommand, *words = re.findall(r"'[^']*'|\S+", example)
    assert (program, subcommand) == ("fewshot", name)
    command = COMMANDS[name]
    config = cli.parse(command.config, "", [word.strip("'") for word in words], positional=command.positional)
    assert isinstance(config, command.config)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_says_what_each_option_is_and_gives_examples(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        commands.execute(name, ["--help"])
    text = capsys.readouterr().out
    assert f"usage: fewshot {name}" in text
    for example in COMMANDS[name].examples:
        assert f"\n  {example}\n" in f"{text}\n"
    for field in COMMANDS[name].config.__dataclass_fields__:
        assert re.search(rf"\b{field}\b.*?(\n.*?){{0,3}}[a-z]{{3,}}", text, re.IGNORECASE), field


def test_an_unknown_command_is_answered_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"unknown command 'trian'. Did you mean 'train'\?"):
        commands.execute("trian", [])


def test_list_prints_a_line_for_each_name(capsys):
    for kind, names in (("methods", fewshot.list_methods()), ("backbones", fewshot.list_backbones()),
                        ("datasets", fewshot.list_datasets())):  # fmt: skip
        commands.execute("list", [kind])
        lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()}
        assert set(names) <= set(lines)
        assert all(len(lines[name]) > 10 for name in names)


def test_a_list_may_be_given_word_by_word_and_a_place_may_be_left_out():
    words = ["omniglot", "--seeds", "0", "1", "2", "--methods", "protonet", "--report", "null", "--methods", "maml"]
    config = cli.parse(ReproduceConfig, "", words, positional=["dataset"])
    assert (config.dataset, config.seeds, config.methods) == ("omniglot", [0, 1, 2], ["protonet", "maml"])
    assert config.report is None
    assert cli.parse(ReproduceConfig, "", [], positional=["dataset"]).dataset == "glyphs"
    assert cli.parse(ReproduceConfig, "", ["--seeds", "[3,4]"], positional=["dataset"]).seeds == [3, 4]
    assert cli.parse(DataConfig, "", ["--dataset", "1", "a,b", "--verify_only"]) == DataConfig(
        dataset=["1", "a,b"], verify_only=True
    )


@pytest.mark.parametrize("words", [["--seeds"], ["--seeds", "one"], ["--seeds", "1.5"], ["--seds", "1"]])
def test_a_mistake_in_a_list_is_refused(words):
    with pytest.raises(SystemExit, match="2"):
        cli.parse(ReproduceConfig, "", words, positional=["dataset"])


def test_embed_writes_the_features_of_each_image(tmp_path, capsys):
    import numpy as np

    from fewshot import create_backbone, load_dataset

    words = ["--backbone", "pixels", "--dataset_options.n_writers", "2", "--out", str(tmp_path / "f.npz")]
    commands.execute("embed", [*words, "--precision", "float32"])
    imageset = load_dataset("glyphs", "test", n_writers=2)
    written = np.load(tmp_path / "f.npz")
    assert np.array_equal(written["labels"], imageset.labels)
    assert tuple(written["class_names"]) == imageset.class_names
    assert np.array_equal(written["groups"], imageset.groups)
    expected = create_backbone("pixels", 1, 28)(imageset.images)
    assert np.allclose(written["features"], expected.numpy())
    assert "features" in capsys.readouterr().out


# ---------------------------------------------------------------- the options of what is named


def test_help_of_a_method_shows_its_own_options_with_their_docstrings():
    text = describe_named(["--method", "protonet", "--dataset=folder", "--help"])
    assert "options of method 'protonet':\n  --method_options.temperature TEMPERATURE\n" in text
    assert "(a number, default: 1.0)" in text
    assert "--dataset_options.size_px SIZE_PX" in text
    assert "backbone" not in text


def test_a_recipe_names_what_its_help_shows(tmp_path):
    (tmp_path / "r.yaml").write_text("method: maml\nbackbone: conv4\n")
    text = describe_named(["--config", str(tmp_path / "r.yaml"), "--method", "anil"])
    assert "method 'anil'" in text
    assert "maml'" not in text
    assert "--backbone_options.n_filters N_FILTERS" in text
    with pytest.raises(ConfigError, match=r"none\.yaml: the file cannot be read \(No such file"):
        describe_named(["--config", str(tmp_path / "none.yaml")])


def test_every_option_of_what_is_registered_is_explained():
    """In the section `Args:` of its docstring: whoever asks for its help reads what the option does."""
    from fewshot.backbones import BACKBONES
    from fewshot.backbones.create import backbone_options
    from fewshot.datasets import DATASETS
    from fewshot.methods import METHODS

    kinds = ((METHODS, METHODS.options), (DATASETS, DATASETS.options), (BACKBONES, backbone_options))
    silent = {
        f"{options_of(name).owner}: {option.name}"
        for registry, options_of in kinds
        for name in registry.names()
        if registry[name].__module__.startswith("fewshot.")
        for option in options_of(name).known.values()
        if not option.text
    }
    assert silent == set()


def test_the_configuration_of_training_names_everything_that_its_help_shows():
    assert {"method", "backbone", "dataset", "plugins"} <= set(ExperimentConfig.__dataclass_fields__)
