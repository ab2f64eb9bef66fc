"""`aligned` and its local features, compared with loops, rotated images and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fewshot import FewShotClassifier, create_backbone, create_method
from fewshot.backbones import Viewed
from fewshot.errors import ConfigError
from fewshot.runtime import seeding

TURNS, RINGS, CHANNELS, GLOBAL = 6, 2, 3, 4
LAYOUT = (TURNS, RINGS, CHANNELS)
LABELS = torch.tensor([[0, 0, 1, 2, 2, 2]])
N_WAY = 3


def drawn(n: int, seed: int) -> torch.Tensor:
    return torch.randn(1, n, GLOBAL + TURNS * RINGS * CHANNELS, generator=seeding.generator(seed, "aligned"))


def by_loops(support: np.ndarray, query: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute similarities (n_query, n_support) in float64 by loops over rotations and cells."""
    cells = [x[:, GLOBAL:].reshape(-1, *LAYOUT) for x in (support, query)]
    cells = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in cells]
    s, q = (x - cells[0].mean((0, 1)) for x in cells)
    covariance = np.einsum("ntrc,ntrd->cd", s, s) / (len(s) * TURNS * RINGS)
    covariance = 0.8 * covariance + 0.2 * np.trace(covariance) / CHANNELS * np.eye(CHANNELS)
    values, vectors = np.linalg.eigh(covariance)
    s, q = (x @ vectors / np.sqrt(values) for x in (s, q))
    s, q = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (s, q))
    return np.array([[max((a * np.roll(b, t, 0)).sum(-1).mean() for t in range(TURNS)) for b in s] for a in q])


def test_logits_are_a_regression_and_the_best_turn():
    support, query = drawn(6, 0), drawn(5, 1)
    method = create_method("aligned", None, layout=LAYOUT, weight=0.7, sharpness=9.0, shrinkage=0.2, c=3.0)
    logits = method(support, LABELS, query, N_WAY)[0].double()
    x, q, y = support[0].double().numpy(), query[0].double().numpy(), LABELS[0].numpy()
    regression = LogisticRegression(C=3.0, tol=1e-9, max_iter=5000).fit(x[:, :GLOBAL], y)
    similarity = np.exp(9 * by_loops(x, q, y))
    score = np.log(np.stack([similarity[:, y == c].mean(1) for c in range(N_WAY)], 1))
    np.testing.assert_allclose(logits, regression.predict_log_proba(q[:, :GLOBAL]) + 0.7 * score, atol=1e-4)


@pytest.mark.parametrize("turn", [1, 4])
def test_a_turned_query_is_the_same_query(turn):
    support, query = drawn(6, 0), drawn(5, 1)
    method = create_method("aligned", None, layout=LAYOUT)
    turned, mirrored = query.clone(), query.clone()
    local = query[..., GLOBAL:].unflatten(-1, LAYOUT)
    turned[..., GLOBAL:] = local.roll(turn, 2).flatten(2)
    mirrored[..., GLOBAL:] = local.flip(3).flatten(2)  # the rim for the middle
    logits = method(support, LABELS, query, N_WAY)
    torch.testing.assert_close(method(support, LABELS, turned, N_WAY), logits, atol=1e-4, rtol=1e-4)
    assert (method(support, LABELS, mirrored, N_WAY) - logits).abs().max() > 0.1


def test_local_features_of_a_turned_image_are_shifted():
    with seeding.fork(0, "aligned"):
        views = {"turns": 4, "rings": "blocks.2"}
        backbone = create_backbone("conv4", 3, 32, n_filters=8, views=views).eval()
    assert backbone.layout == (4, 2, 8)  # 32 px halved three times: 4 x 4 cells, two from the rim to the middle
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=seeding.generator(0))
    with torch.no_grad():
        first, turned = backbone(images), backbone(images.rot90(1, (2, 3)))
    n_local = 4 * 2 * 8
    assert first.shape[1] == backbone.feature_dim == backbone.source.feature_dim + n_local
    local, other = (x[:, -n_local:].unflatten(1, (4, 2, 8)) for x in (first, turned))
    shifts = [(local.roll(t, 1) - other).abs().max() for t in range(4)]
    assert min(shifts) < 1e-5 < 0.01 < sorted(shifts)[1]
    torch.testing.assert_close(first[:, :-n_local], turned[:, :-n_local], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_only_some_of_the_turns_go_to_the_end():
    """With 16 turns the mean is that of every second view; local features are those of all views."""
    views = {"turns": 16, "rings": "blocks.2"}
    with seeding.fork(0, "aligned"):
        backbone = create_backbone("conv4", 3, 32, n_filters=8, views=views).eval()
    whole = Viewed(backbone.source, turns=8).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=seeding.generator(0))
    passes = []
    backbone.source.body.blocks[3].register_forward_hook(lambda *_: passes.append(1))
    features = backbone(images)
    assert len(passes) == 8
    torch.testing.assert_close(features[:, : backbone.source.feature_dim], whole(images))
    assert features[:, backbone.source.feature_dim :].unflatten(1, (16, -1)).norm(dim=2).min() > 0.2  # 1 / 4 each


def test_none_of_these_by_the_evidence():
    """Images with local features of no class are rejected, rotated images of known classes are not."""
    draw, layout = seeding.generator(0, "unknown"), (6, 2, 16)
    prototypes = torch.randn(20, GLOBAL + 6 * 2 * 16, generator=draw)

    def images(labels: np.ndarray) -> torch.Tensor:
        noisy = prototypes[labels] + 0.2 * torch.randn(len(labels), prototypes.shape[1], generator=draw)
        noisy[:, :GLOBAL] *= 0.01  # these tell nothing
        return noisy

    labels = np.arange(20) // 2
    classifier = FewShotClassifier(None, "aligned", method_options={"layout": layout}, false_accept_rate=0.1)
    classifier.fit(images(labels).numpy(), labels)
    known, unknown = images(labels), images(labels + 10)
    known[:, GLOBAL:] = known[:, GLOBAL:].unflatten(-1, layout).roll(2, 1).flatten(1)
    assert classifier.predict(known.numpy()).tolist() == labels.tolist()
    assert classifier.predict(unknown.numpy()).tolist().count(classifier.unknown) >= 16


def test_similarity_is_that_of_the_best_turn():
    support, query = drawn(6, 0), drawn(5, 1)
    method = create_method("aligned", None, layout=LAYOUT, shrinkage=0.2)
    expected = by_loops(support[0].double().numpy(), query[0].double().numpy(), LABELS[0].numpy())
    np.testing.assert_allclose(method.similarity(support[0], query[0]), expected, atol=1e-4)


def test_what_makes_no_sense_is_a_sentence():
    with pytest.raises(ConfigError, match=r"rings='blocks\.9' names 0 layers"):
        create_backbone("conv4", 3, 32, views={"rings": "blocks.9"})
    with pytest.raises(ConfigError, match="rings are of one size"):
        create_backbone("conv4", 3, 32, views={"rings": "blocks.2", "zooms": [1.0, 0.8]})
    with pytest.raises(ConfigError, match=r"layout is \(turns, rings, channels\)"):
        create_method("aligned", create_backbone("conv4", 3, 32))
    with pytest.raises(ConfigError, match="weight, sharpness and c are positive"):
        create_method("aligned", None, layout=LAYOUT, weight=0)
    with pytest.raises(ConfigError, match="shrinkage is above 0 and at most 1"):
        create_method("aligned", None, layout=LAYOUT, shrinkage=0)
    with pytest.raises(ConfigError, match="36 features hold no layout"):
        create_method("aligned", None, layout=LAYOUT)(
            *(drawn(6, 0)[..., GLOBAL:], LABELS, drawn(2, 1)[..., GLOBAL:], 3)
        )


def test_coins_lie_any_way_up(tmp_path):
    """With one drawing per class the estimator classifies rotated drawings, also after saving and loading."""
    draw = seeding.numpy_generator(0, "drawings")
    drawings = [np.kron(draw.integers(0, 255, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8) for _ in range(5)]
    options = {"backbone": "conv4", "pretrained": False, "size_px": 32, "backbone_options": {"n_filters": 16}}
    asked = FewShotClassifier(**options, method="aligned", views={"turns": 8, "rings": "blocks.1"}, calibrate=False)
    classifier = asked.fit(drawings, list("abcde"))
    turned = [np.rot90(image, quarter) for quarter in (1, 2, 3) for image in drawings]
    assert classifier.predict(turned).tolist() == list("abcde") * 3
    classifier.save(tmp_path / "a.fewshot")
    again = FewShotClassifier.load(tmp_path / "a.fewshot")
    np.testing.assert_array_equal(again.predict_proba(turned), classifier.predict_proba(turned))


def test_the_estimator_knows_what_aligned_needs():
    """It chooses the layer of a known backbone and enough turns, unless `views` sets them."""
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=seeding.generator(0))
    asked = {"pretrained": False, "size_px": 64, "rotation_invariant": True, "method": "aligned", "calibrate": False}
    classifier = FewShotClassifier("efficientnet-lite0", **asked).fit(images, list("aabb"))
    assert classifier.encoder_.plan.options.views == {"turns": 24, "rings": "blocks.3"}
    other = FewShotClassifier("efficientnet-lite0", **asked, views={"turns": 4, "rings": "blocks.2"})
    assert other.fit(images, list("aabb")).encoder_.method.layout == (4, 4, 40)
    with pytest.raises(ConfigError, match="a backbone with views="):
        FewShotClassifier("conv4", **asked).fit(images, list("aabb"))
