"""Stored features: reused by all methods for the same weights and pixels, computed again for others."""

import importlib.util
import os
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest
import torch
from conftest import striped
from test_floors import imported
from torch import nn

from fewshot import ImageSet, create_backbone, create_method
from fewshot.backbones import Backbone
from fewshot.errors import ConfigError
from fewshot.evaluation import feature_store
from fewshot.evaluation.embed import embed
from fewshot.runtime import seeding
from fewshot.runtime.provenance import collect_versions, hash_weights


def backbone(seed: int = 0, **options: object) -> torch.nn.Module:
    with seeding.fork(seed, "store"):
        return create_backbone("conv4", 1, 16, n_filters=8, **options)


@pytest.fixture
def calls(monkeypatch, tmp_path) -> list[str]:
    """The methods that computed features instead of loading them, in order, beginning with an empty store."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path))
    made: list[str] = []

    def counted(network, *arguments):
        made.append(type(network).__name__)
        return encode(network, *arguments)

    encode = sys.modules["fewshot.evaluation.embed"]._encode
    monkeypatch.setattr("fewshot.evaluation.embed._encode", counted)
    return made


def stored_features(network: nn.Module, imageset: ImageSet, precision: str = "float32") -> torch.Tensor:
    return embed(network, imageset, None, precision, store=True).values


def test_another_method_on_the_same_backbone_finds_them(calls):
    images = striped(4, split="test")
    first = stored_features(create_method("protonet", backbone()), images)
    again = stored_features(create_method("nearest", backbone()), images)
    bare = stored_features(backbone(), images)
    assert calls == ["PrototypicalNetwork"]
    assert torch.equal(first, again)
    assert torch.equal(first, bare)
    assert torch.equal(first, embed(create_method("protonet", backbone()), images).values)
    assert torch.equal(first, embed(backbone(), images).values)
    with pytest.raises(ConfigError, match="embed some of its rows with store=False"):
        embed(backbone(), images, torch.arange(3), store=True)


@pytest.mark.parametrize(
    "change",
    ["weights", "pixels", "precision", "views", "code", "pooling"],
)
def test_what_decides_them_decides_the_key(calls, monkeypatch, change):
    images, network, precision = striped(4, split="test"), backbone(), "float32"
    stored_features(create_method("protonet", backbone()), images)
    if change == "weights":
        network = backbone(1)
    elif change == "pixels":
        images = striped(4, split="test", seed=1)
    elif change == "precision":
        precision = "bfloat16"
    elif change == "views":
        network = backbone(views={"turns": 2})
    elif change == "pooling":
        network = backbone(pooling="mean")
    else:
        monkeypatch.setattr(feature_store, "_hash_sources", lambda: "changed")
    stored_features(create_method("protonet", network), images, precision)
    assert len(calls) == 2


def test_methods_that_encode_by_themselves_keep_to_themselves(calls):
    images = striped(4, split="test")
    relation = create_backbone("conv4-relation", 1, 28, n_filters=8)
    for name in ("protonet", "relation"):
        stored_features(create_method(name, relation), images)
    assert calls == ["PrototypicalNetwork", "RelationNetwork"]


def test_a_broken_file_is_made_anew(calls, tmp_path):
    images, method = striped(4, split="test"), create_method("protonet", backbone())
    first = stored_features(method, images)
    (file,) = (tmp_path / "features").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(stored_features(method, images), first)
    assert torch.equal(stored_features(method, images), first)
    assert len(calls) == 2


def test_a_store_that_cannot_be_written_is_done_without(calls, tmp_path, caplog):
    (tmp_path / "features").write_text("a file where the folder should be")
    images, method = striped(4, split="test"), create_method("protonet", backbone())
    assert torch.equal(stored_features(method, images), embed(method, images).values)
    assert "features are not stored" in caplog.text


# ---------------------------------------------------------------- what decides features beside weights

USERS_FILE = """
import torch
from torch import nn
from {tool} import scaled

class Net(nn.Module):
    pooling = "mean"

    def __init__(self, power=1):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.power, self.callback = power, None

    def forward(self, images):
        return {forward}
"""
PLAIN_FORWARD = "self.convolution(images) ** self.power"


def users_network(folder: Path, forward: str = PLAIN_FORWARD, tool: str = "return x", power: object = 1) -> Backbone:
    """A backbone of a user's own file, which imports another one; both written and imported anew."""
    number = len(list(folder.iterdir())) if folder.exists() else 0
    names = [f"users_{what}_{folder.name.replace('-', '_')}" for what in ("tool", "network")]
    texts = [f"def scaled(x):\n    {tool}\n", USERS_FILE.format(tool=names[0], forward=forward)]
    folder.mkdir(exist_ok=True)
    for name, text in zip(names, texts, strict=True):
        path = folder / f"{number}_{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    with seeding.fork(0, "user"):
        return Backbone(module.Net(power), 1, 16, "mean")


def stored(network: nn.Module) -> None:
    stored_features(create_method("protonet", network), striped(4, split="test"))


def reembeds(calls: list[str], first: nn.Module, second: nn.Module) -> bool:
    """Whether the features of the second network are computed again, although its weights equal those of the first."""
    assert hash_weights(first) == hash_weights(second)
    stored(first)
    calls.clear()
    stored(second)
    return bool(calls)


def test_a_users_network_is_found_again(calls, tmp_path):
    assert not reembeds(calls, users_network(tmp_path / "u"), users_network(tmp_path / "u"))


def test_another_forward_of_a_users_file(calls, tmp_path):
    changed = users_network(tmp_path / "u", "self.convolution(images).abs()")
    assert reembeds(calls, users_network(tmp_path / "u"), changed)


def test_another_function_that_a_users_file_imports(calls, tmp_path):
    forward = "scaled(self.convolution(images))"
    networks = [users_network(tmp_path / "u", forward, tool) for tool in ("return x", "return 2 * x")]
    assert reembeds(calls, *networks)


def test_a_forward_replaced_at_run_time(calls, tmp_path, monkeypatch):
    network = users_network(tmp_path / "u")
    stored(network)
    monkeypatch.setattr(type(network.body), "forward", lambda self, images: self.convolution(images).abs())
    stored(network)
    monkeypatch.setattr(type(network.body), "forward", lambda self, images: self.convolution(images).neg())
    stored(network)
    network.body.forward = lambda images: network.body.convolution(images).sqrt()
    stored(network)
    assert len(calls) == 4


@pytest.mark.parametrize("power", [2, 1.0, (1,), "1", torch.tensor(1.0)])
def test_a_plain_attribute(calls, tmp_path, power):
    plain, other = users_network(tmp_path / "u"), users_network(tmp_path / "u", "self.convolution(images)", power=power)
    same = users_network(tmp_path / "u", "self.convolution(images)", power=1)
    assert reembeds(calls, same, other)
    plain.body.convolution.note = "of a submodule"
    assert reembeds(calls, users_network(tmp_path / "u"), plain)


def test_an_attribute_of_torchs_own_layers(calls):
    first, second = backbone(), backbone()
    second.body.blocks[1][1].eps = 0.5
    assert reembeds(calls, first, second)


def test_a_buffer_outside_of_the_state_dict(calls):
    first, second = (create_backbone("conv4", 1, 16, n_filters=8) for _ in range(2))
    second.load_state_dict(first.state_dict())
    second._mean += 0.1
    assert reembeds(calls, first, second)


def test_a_hook(calls):
    first, second = backbone(), backbone()
    second.body.blocks[1].register_forward_hook(lambda _, __, maps: 2 * maps)
    assert reembeds(calls, first, second)


def test_modules_that_an_attribute_hides(calls):
    networks = [backbone(), backbone(), backbone()]
    for seed, network in zip((0, 0, 1), networks, strict=True):
        network.hidden = [backbone(seed)]  # in a list: not among its modules, nor its weights in the state dict
    assert not reembeds(calls, *networks[:2])
    assert reembeds(calls, *networks[1:])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "callback holds a value of type object"),
        (eval("lambda x: x", {}), "lies in no file"),
        (reduce(lambda inner, _: [inner], range(5000), []), "nested too deeply"),
    ],
    ids=["object", "function", "nested"],
)
def test_what_cannot_be_described_is_not_stored(calls, tmp_path, caplog, value, words):
    network = users_network(tmp_path / "u")
    network.body.callback = value
    assert reembeds(calls, network, network)
    assert "features are not stored" in caplog.text
    assert words in caplog.text
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize("library", ["timm", "torchvision", "torch"])
def test_library_versions(calls, monkeypatch, library):
    images, method = striped(4, split="test"), create_method("protonet", backbone())
    assert library in collect_versions()
    stored_features(method, images)
    monkeypatch.setattr(feature_store, "collect_versions", lambda: collect_versions() | {library: "0.0.1"})
    stored_features(method, images)
    assert len(calls) == 2


def test_a_deciding_file_that_does_not_exist_is_an_error(monkeypatch):
    monkeypatch.setattr(feature_store, "DECIDING", (*feature_store.DECIDING, "moved.py"))
    with pytest.raises(FileNotFoundError, match=r"DECIDING names .*moved\.py, which does not exist"):
        feature_store._hash_sources.__wrapped__()


def test_no_deciding_file_is_forgotten():
    """Every module that backbones, methods and `embed` import is in DECIDING, or listed here as without effect."""
    harmless = {
        "errors.py", "registry.py", "runtime/processes.py", "runtime/seeding.py",  # messages, names, initial weights
        "runtime/choices.py", "runtime/devices.py",  # words; which device: the key
        "evaluation/feature_key.py", "evaluation/feature_set.py", "evaluation/feature_store.py",
        "runtime/transfer.py", "datasets", "images/imageset.py", "sampling",  # copies; which pixels: the fingerprint
        "runtime/provenance.py", "runtime/plugins.py",  # hashes of weights; what records say of plugins
        "images/augment.py", "config",  # how training goes
    }  # fmt: skip
    root, reached, waiting = feature_store.ROOT, set(), list(feature_store.DECIDING)

    def file_of(module: str) -> Path:
        """The file of a module, or of the module that a name is imported from, relative to `fewshot/`."""
        path = root / module.replace(".", "/")
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py").relative_to(root)
        return (path / "__init__.py").relative_to(root) if path.is_dir() else file_of(module.rpartition(".")[0])

    while waiting:
        place = root / waiting.pop()
        for path in [place] if place.is_file() else place.rglob("*.py"):
            for file in map(file_of, imported(path)):
                whole = file.parts[0] in {*harmless, *feature_store.DECIDING}
                entry = file.parts[0] if whole else file.as_posix()
                if entry not in harmless and entry not in reached and entry != "images/__init__.py":
                    reached.add(entry)
                    waiting.append(entry)
    assert reached <= set(feature_store.DECIDING)


def test_a_description_is_the_same_in_another_process():
    code = (
        "from fewshot import create_backbone\nfrom fewshot.evaluation.feature_key import describe_network\n"
        "for name in ('conv4', 'efficientnet-lite0', 'timm/resnet18', 'torchvision/mobilenet_v2'):\n"
        "    print(describe_network(create_backbone(name, 3, 64)))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
        for environment in ({**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2"))
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0].split())) == 4
