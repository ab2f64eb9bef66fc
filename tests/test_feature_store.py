"""Features on disk: found again for the same weights and pixels, by whatever method, and made anew for others."""

import pytest
import torch
from conftest import striped

from fewshot import create_backbone, create_method, feature_store, seeding
from fewshot.feature_store import stored_embedding
from fewshot.features import embed


def backbone(seed: int = 0, **options: object) -> torch.nn.Module:
    with seeding.forked(seed, "store"):
        return create_backbone("conv4", 1, 16, n_filters=8, **options)


@pytest.fixture
def calls(monkeypatch, tmp_path) -> list[str]:
    """The methods that really embedded, one after the other, with an empty store."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path))
    made: list[str] = []

    def counted(method, imageset, **options):
        made.append(type(method).__name__)
        return embed(method, imageset, **options)

    monkeypatch.setattr(feature_store, "embed", counted)
    return made


def test_another_method_on_the_same_backbone_finds_them(calls):
    images = striped(4, split="test")
    first = stored_embedding(create_method("protonet", backbone()), images)
    again = stored_embedding(create_method("nearest", backbone()), images)
    assert calls == ["PrototypicalNetwork"]
    assert torch.equal(first, again)
    assert torch.equal(first, embed(create_method("protonet", backbone()), images))


@pytest.mark.parametrize(
    "change",
    ["weights", "pixels", "precision", "views", "code", "pooling"],
)
def test_what_decides_them_decides_the_key(calls, monkeypatch, change):
    images, network, precision = striped(4, split="test"), backbone(), "float32"
    stored_embedding(create_method("protonet", backbone()), images)
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
        monkeypatch.setattr(feature_store, "_sources", lambda: "changed")
    stored_embedding(create_method("protonet", network), images, precision)
    assert len(calls) == 2


def test_methods_that_encode_by_themselves_keep_to_themselves(calls):
    images = striped(4, split="test")
    relation = create_backbone("conv4-relation", 1, 28, n_filters=8)
    for name in ("protonet", "relation"):
        stored_embedding(create_method(name, relation), images)
    assert calls == ["PrototypicalNetwork", "RelationNetwork"]


def test_a_broken_file_is_made_anew(calls, tmp_path):
    images, method = striped(4, split="test"), create_method("protonet", backbone())
    first = stored_embedding(method, images)
    (file,) = (tmp_path / "features").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(stored_embedding(method, images), first)
    assert torch.equal(stored_embedding(method, images), first)
    assert len(calls) == 2


def test_a_store_that_cannot_be_written_is_done_without(calls, tmp_path, caplog):
    (tmp_path / "features").write_text("a file where the folder should be")
    images, method = striped(4, split="test"), create_method("protonet", backbone())
    assert torch.equal(stored_embedding(method, images), embed(method, images))
    assert "features are not kept" in caplog.text
