"""R2-D2 compared with scikit-learn's ridge regression and hand-worked numbers, and its gradients."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from fewshot import EpisodeSampler, EpisodeSpec, create_backbone
from fewshot.errors import ConfigError
from fewshot.methods.base import accuracy
from fewshot.methods.r2d2 import RidgeRegression, ridge
from fewshot.runtime import seeding

LABELS = torch.tensor([[0, 0, 0, 1, 2, 2], [0, 1, -1, -1, 2, -1], [2, 2, 2, 2, -1, 1]])  # unequal shots, padding


def normal(*shape: int, name: str = "", dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=seeding.generator(0, "r2d2", name, *shape), dtype=dtype)


def with_one(features: np.ndarray) -> np.ndarray:
    return np.hstack([features, np.ones((len(features), 1))])


@pytest.mark.parametrize("dim", [2, 4, 5, 6, 40])  # 6 images against dim + 1 inputs: primal, then dual
def test_logits_are_those_of_ridge(dim):
    method = RidgeRegression(None, init_lambda=0.7, init_scale=3.0).double()
    method.bias.data.fill_(0.25)
    support, query = normal(3, 6, dim, name="support"), normal(3, 4, dim, name="query")
    logits = method(support, LABELS, query, 3).detach().numpy()
    for b in range(3):
        real = (LABELS[b] >= 0).numpy()
        # the column of ones is the bias, penalised like any weight; the squared error is a mean: lambda * n
        oracle = Ridge(alpha=method.log_lambda.exp().item() * real.sum(), fit_intercept=False, solver="svd")
        oracle.fit(with_one(support[b, real].numpy()), np.eye(3)[LABELS[b, real].numpy()])
        present = np.isin(range(3), LABELS[b])
        expected = 3.0 * oracle.predict(with_one(query[b].numpy())) + 0.25
        np.testing.assert_allclose(logits[b][:, present], expected[:, present], rtol=0, atol=1e-8)
        assert (logits[b][:, ~present] == -np.inf).all()


@pytest.mark.parametrize(("n", "dim"), [(3, 50), (8, 8), (50, 3)])
def test_ridge_weights_are_those_of_scikit_learn(n, dim):
    inputs, targets, penalty = normal(2, n, dim), normal(2, n, 4, name="t"), torch.tensor([0.01, 30.0]).double()
    weights = ridge(inputs, targets, penalty)
    for b in range(2):
        oracle = Ridge(alpha=float(penalty[b]), fit_intercept=False, solver="svd").fit(inputs[b], targets[b])
        np.testing.assert_allclose(weights[b].numpy(), oracle.coef_.T, rtol=0, atol=1e-8)


def test_logits_by_hand():
    # images 1 and -1 of classes 0 and 1, with ones: XᵀX = 2I, lambda n = 1 * 2, so W = XᵀY / 4
    # XᵀY = [[1, -1], [1, 1]]; the query 3 with its one gives (3 + 1) / 4 and (-3 + 1) / 4, times the scale 10
    method = RidgeRegression(None, init_lambda=1.0)
    logits = method(torch.tensor([[[1.0], [-1.0]]]), torch.tensor([[0, 1]]), torch.tensor([[[3.0]]]), 2)
    torch.testing.assert_close(logits, torch.tensor([[[10.0, -5.0]]]))


def test_initial_values_are_the_authors():
    method = RidgeRegression(None)
    assert method.log_lambda.exp().item() == pytest.approx(50, rel=1e-6)
    assert (method.scale.item(), method.bias.item()) == (10.0, 0.0)
    assert {name for name, _ in method.named_parameters()} == {"log_lambda", "scale", "bias"}
    fixed = RidgeRegression(None, learn_lambda=False)
    assert {name for name, _ in fixed.named_parameters()} == {"scale", "bias"}
    assert "log_lambda" in fixed.state_dict()
    with pytest.raises(ConfigError, match=r"init_lambda must be positive, got 0"):
        RidgeRegression(None, init_lambda=0)


@pytest.mark.parametrize("dim", [2, 9])  # primal, dual
def test_gradients(dim):
    def logits(support, query, log_lambda, scale, bias):
        values = {"log_lambda": log_lambda, "scale": scale, "bias": bias}
        out = torch.func.functional_call(method, values, (support, LABELS, query, 3))
        return out.masked_fill(out.isinf(), 0)

    method = RidgeRegression(None).double()
    scalars = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (-0.5, 2.0, 0.1)]
    arguments = (normal(3, 6, dim).requires_grad_(), normal(3, 2, dim).requires_grad_(), *scalars)
    assert torch.autograd.gradcheck(logits, arguments)
    assert torch.autograd.gradgradcheck(logits, arguments)


@pytest.mark.parametrize("dim", [4, 30])
def test_primal_and_dual_agree_and_padding_changes_nothing(dim):
    # the same real images with more and more padding: the system goes from dual to primal at dim + 1
    method = RidgeRegression(None).double()
    support, query, labels = normal(1, 6, dim), normal(1, 5, dim), torch.tensor([[0, 1, 2, 0, 1, 0]])
    expected = method(support, labels, query, 3)
    junk = 1e6 * normal(1, 60, dim)
    padded = method(torch.cat([junk, support], 1), torch.cat([torch.full((1, 60), -1), labels], 1), query, 3)
    torch.testing.assert_close(padded, expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_float32_agrees_with_float64():
    for dim in (64, 2000):
        support, query = normal(4, 25, dim), normal(4, 10, dim)
        labels = torch.arange(5).repeat(4, 5)
        method = RidgeRegression(None)
        single = method(support.float(), labels, query.float(), 5)
        torch.testing.assert_close(single.double(), method.double()(support, labels, query, 5), rtol=1e-4, atol=1e-4)


def test_training_learns_lambda_scale_and_the_backbone(toy_sets):
    with seeding.fork(0, "r2d2"):
        method = RidgeRegression(create_backbone("conv4", 1, 16, n_filters=8))
    sampler = EpisodeSampler(toy_sets[0], EpisodeSpec(4, 2, 4))
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    losses, accuracies = [], []
    for step in range(30):
        episode = sampler.batch(step, 4).fill(sampler.data)
        loss, logits = method.loss_and_logits(episode)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        accuracies.append(float(accuracy(logits, episode.query_labels).mean()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert np.mean(accuracies[-5:]) > 0.5  # chance is 0.25
    assert abs(method.log_lambda.exp().item() - 50) > 0.1
    assert abs(method.scale.item() - 10) > 0.01
