"""`FeatureSet`: addressed by the rows of its image set, with its labels, and only for the embedded rows."""

import numpy as np
import pytest
import torch

from fewshot import EpisodeSampler, EpisodeSpec, FeatureSet, ImageSet, create_method, embed, evaluate
from fewshot.errors import DataError, EpisodeError


def shown() -> ImageSet:
    """Twelve images of one pixel, row r of value 10 * r; classes of four, groups of two."""
    images = np.arange(0, 120, 10, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return ImageSet(images, np.arange(12) // 4, ["a", "b", "c"], groups=np.arange(12) // 2, split="val")


def test_rows_are_the_image_sets_own():
    rows = torch.tensor([7, 0, 11])
    features = FeatureSet(shown(), 100.0 * rows[:, None], rows)
    asked = torch.tensor([[0, 7], [7, 11]])
    assert features.gather(asked).squeeze(-1).tolist() == [[0, 700], [700, 1100]]
    with pytest.raises(DataError, match=r"FeatureSet\(3 of shape \(1,\), of ImageSet.* does not hold row 3$"):
        features.gather(torch.tensor([[0, 3], [7, 4]]))
    with pytest.raises(DataError, match="2 features for 3 rows"):
        FeatureSet(shown(), torch.zeros(2, 1), rows)
    with pytest.raises(DataError, match="2 features for 12 rows"):
        FeatureSet(shown(), torch.zeros(2, 1))


def test_labels_names_and_groups_are_lent():
    imageset = shown()
    features = embed(create_method("protonet", None), imageset)
    assert np.array_equal(features.labels, imageset.labels)
    assert (features.class_names, features.fingerprint) == (imageset.class_names, imageset.fingerprint)
    spec = EpisodeSpec(2, 1, 2, disjoint_groups=True)
    rows, again = (EpisodeSampler(data, spec, 3).batch(0, 9) for data in (imageset, features))
    assert torch.equal(rows.query, again.query)
    # without a backbone the features of an image are its pixels, in [0, 1]
    torch.testing.assert_close(rows.fill(features).query[..., 0] * 255, 10.0 * rows.query)
    with pytest.raises(EpisodeError, match=r"FeatureSet.* has 3 classes, too few for 4-way"):
        EpisodeSampler(features, EpisodeSpec(4, 1, 1))


def test_a_head_on_features_measures_what_it_does_on_images():
    imageset, method = shown(), create_method("protonet", None)
    on_images = evaluate(method, imageset, EpisodeSpec(2, 1, 2), 30)
    on_features = evaluate(method, embed(method, imageset), EpisodeSpec(2, 1, 2), 30)
    assert [record[:5] for record in on_images.episodes] == [record[:5] for record in on_features.episodes]
    same = ("data_fingerprint", "dataset", "split", "spec", "seed")
    assert [getattr(on_images.header, key) for key in same] == [getattr(on_features.header, key) for key in same]
    with pytest.raises(DataError, match="does not hold row"):
        evaluate(method, embed(method, imageset, torch.arange(6)), EpisodeSpec(2, 1, 2), 30)


def test_features_of_another_network_are_refused(small_protonet):
    images = np.arange(12 * 256).astype(np.uint8).reshape(12, 1, 16, 16)
    imageset = ImageSet(images, np.arange(12) // 4, ["a", "b", "c"])
    mine, other, spec = small_protonet(), small_protonet(), EpisodeSpec(2, 1, 2)
    with torch.no_grad():
        other.backbone.body.blocks[0][0].weight.mul_(-1)
    features = embed(mine, imageset)
    assert embed(mine.backbone, imageset).encoder == features.encoder != embed(other, imageset).encoder
    with pytest.raises(DataError, match="was computed by another network than this ProtoNet's"):
        evaluate(other, features, spec, 5)
    unknown = FeatureSet(imageset, features.values)  # of the user's own making
    assert evaluate(other, unknown, spec, 5).mean == evaluate(mine, features, spec, 5).mean


def test_the_header_names_the_precision_of_the_features(small_protonet):
    imageset = ImageSet(np.zeros((12, 1, 16, 16), np.uint8), np.arange(12) // 4, ["a", "b", "c"])
    method = small_protonet()
    features = embed(method, imageset, precision="bfloat16")
    assert evaluate(method, features, EpisodeSpec(2, 1, 2), 5, precision="float32").header.precision == "bfloat16"


@pytest.mark.parametrize(
    ("values", "rows", "message"),
    [
        (np.zeros((12, 1), np.float32), None, "got no tensor"),
        (torch.zeros(12, 1, dtype=torch.int64), None, r"got torch\.int64 \(12, 1\)"),
        (torch.zeros(12), None, r"\(n, D\) or \(n, c, h, w\), got torch\.float32 \(12,\)"),
        (torch.zeros(2, 1), torch.tensor([0, 12]), "rows of .*, 0 to 11"),
        (torch.zeros(2, 1), torch.tensor([0, -1]), "rows of .*, 0 to 11"),
        (torch.zeros(12, 1), torch.ones(12, dtype=torch.bool), "rows of .*, 0 to 11, int64"),
    ],
)
def test_what_are_no_features_or_no_rows(values, rows, message):
    with pytest.raises(DataError, match=message):
        FeatureSet(shown(), values, rows)


@pytest.mark.parametrize("n_episodes", [0, -3])
def test_no_episodes_are_refused(n_episodes):
    with pytest.raises(EpisodeError, match=f"n_episodes must be at least 1, got {n_episodes}"):
        evaluate(create_method("protonet", None), shown(), EpisodeSpec(2, 1, 1), n_episodes)


def test_rows_that_no_episode_has_are_not_embedded(monkeypatch):
    seen, method = [], create_method("protonet", None)
    encode = type(method).encode
    monkeypatch.setattr(type(method), "encode", lambda *given: seen.extend(given[1].flatten()) or encode(*given))
    drawn = EpisodeSampler(shown(), EpisodeSpec(2, 1, 1), 0).batch(0, 2)
    evaluate(method, shown(), EpisodeSpec(2, 1, 1), 2)
    rows = torch.cat([drawn.support.flatten(), drawn.query.flatten()]).unique()
    assert [int(pixel) // 10 for pixel in seen] == rows.tolist()
    assert len(rows) < 12
