"""GDA against scikit-learn's LinearDiscriminantAnalysis, the authors' code written out, and hand-worked numbers."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from fewshot import create_method
from fewshot.errors import ConfigError
from fewshot.methods.gda import GaussianDiscriminantAnalysis
from fewshot.runtime import seeding

LABELS = torch.tensor([[0, 0, 0, 1, 2, 2], [0, 1, -1, 0, 2, -1], [2, 2, 2, 2, -1, 1]])  # unequal shots, padding


def normal(*shape: int, name: str = "") -> torch.Tensor:
    return torch.randn(*shape, generator=seeding.generator(0, "gda", name, *shape), dtype=torch.float64)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("shrinkage", [0.05, 0.9, 1.0])
@pytest.mark.parametrize("dim", [3, 11, 12, 13, 60])  # 12 images: by a matrix of dim x dim, then of 12 x 12
def test_probabilities_are_those_of_linear_discriminant_analysis(dim, shrinkage, normalize):
    method = GaussianDiscriminantAnalysis(None, shrinkage, normalize).double()
    labels = torch.arange(4).repeat(3)  # scikit-learn weighs classes' covariances by their priors: equal shots
    support, query = 3 + normal(2, 12, dim, name="support"), 3 + normal(2, 7, dim, name="query")
    probabilities = method(support, labels.expand(2, -1), query, 4).softmax(-1).numpy()
    for b in range(2):
        x, q = (unit(part[b].numpy()) if normalize else part[b].numpy() for part in (support, query))
        oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, labels.numpy())
        np.testing.assert_allclose(probabilities[b], oracle.predict_proba(q), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dim", [2, 40])
def test_probabilities_are_those_of_the_authors_code(dim):
    """main.py of mrflogs/ICLR24, with `np.cov` for `Tensor.cov` and equal priors, of unequal shots and padding."""
    support, query = normal(3, 6, dim, name="support"), normal(3, 4, dim, name="query")
    probabilities = create_method("gda", None).double()(support, LABELS, query, 3).softmax(-1).numpy()
    for b in range(3):
        real = (LABELS[b] >= 0).numpy()
        vecs, labels, q = unit(support[b].numpy()[real]), LABELS[b].numpy()[real], unit(query[b].numpy())
        classes = np.unique(labels)
        mus = np.stack([vecs[labels == i].mean(0) for i in classes])
        center_vecs = np.concatenate([vecs[labels == i] - mus[k] for k, i in enumerate(classes)])
        n, cov = len(center_vecs), np.cov(center_vecs.T)
        cov_inv = dim * np.linalg.pinv((n - 1) * cov + np.trace(cov) * np.eye(dim))
        scores = q @ (mus @ cov_inv).T - np.einsum("nd,dc,nc->n", mus, cov_inv, mus) / 2
        expected = np.exp(scores - scores.max(1, keepdims=True))
        np.testing.assert_allclose(
            probabilities[b][:, classes], expected / expected.sum(1, keepdims=True), rtol=1e-7, atol=1e-9
        )


def test_logits_by_hand():
    # classes at (±1, 0) and (±1, 4): S = diag(4, 0), tr S = 4, n = 4, D = 2. Shrinkage ½: (½ S + ½ · 4 / 2 · I) / 4
    # = diag(¾, ¼). The query (1, 1) is (1, 1) from (0, 0) and (1, -3) from (0, 4): 4/3 + 4 and 4/3 + 36
    support = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [1.0, 4.0], [-1.0, 4.0]]])
    method = GaussianDiscriminantAnalysis(None, shrinkage=0.5, normalize=False)
    logits = method(support, torch.tensor([[0, 0, 1, 1]]), torch.tensor([[[1.0, 1.0]]]), 2)
    torch.testing.assert_close(logits, -torch.tensor([[[4 / 3 + 4, 4 / 3 + 36]]]) / 2)


def test_with_one_image_a_class_the_nearest_wins():
    support, query = normal(5, 4, 9, name="support"), normal(5, 20, 9, name="query")
    labels = torch.arange(4).expand(5, -1)
    for shrinkage in (None, 0.3):
        logits = GaussianDiscriminantAnalysis(None, shrinkage, normalize=False)(support, labels, query, 4)
        assert torch.equal(logits.argmax(-1), torch.cdist(query, support).argmin(-1))
        assert logits.isfinite().all()


def test_equal_images_give_finite_logits():
    same = torch.full((1, 6, 3), 0.3)
    logits = GaussianDiscriminantAnalysis(None)(same, torch.tensor([[0, 0, 1, 1, 2, 2]]), same, 3)
    torch.testing.assert_close(logits, torch.zeros(1, 6, 3))


@pytest.mark.parametrize("dim", [2, 9])
def test_gradients(dim):
    method, labels = GaussianDiscriminantAnalysis(None), torch.tensor([[0, 0, 1, 1, -1]])
    inputs = (normal(1, 5, dim, name="s").requires_grad_(), normal(1, 3, dim, name="q").requires_grad_())
    assert torch.autograd.gradcheck(lambda support, query: method.head(support, labels, query, 2), inputs)


@pytest.mark.parametrize("shrinkage", [0.0, -0.1, 1.1, float("nan")])
def test_an_impossible_shrinkage_is_named(shrinkage):
    with pytest.raises(ConfigError, match="shrinkage is above 0 and at most 1"):
        GaussianDiscriminantAnalysis(None, shrinkage)
