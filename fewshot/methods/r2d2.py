"""R2-D2: ridge regression on each episode's support set."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import mask_absent


@METHODS.register("r2d2")
class RidgeRegression(Method):
    """Ridge regression of one-hot labels on features, solved in closed form, with gradients through the solution.

    Args:
        backbone: computes the features of images; None if features are given.
        init_lambda: initial penalty λ; the authors use 50.
        init_scale: initial scale of the logits; the authors use 10 on Omniglot and CIFAR-FS, 1e-4 on mini-ImageNet.
        learn_lambda: learn λ (as its logarithm, so it stays positive).

    Bertinetto, Henriques, Torr, Vedaldi, Meta-learning with differentiable closed-form solvers, ICLR 2019,
    https://arxiv.org/abs/1805.08136; code https://github.com/bertinetto/r2d2, fewshots/models/r2d2.py.
    As there, a column of ones is appended to the features, its weight (the bias) is penalised like the
    others, and the squared error is the mean over the support, so that the penalty on their sum is
    λ times their number. Logits are scale · regression + bias. That bias is one number for all classes, so it changes
    neither the softmax nor the loss.

    Differs from the authors' code: λ is learned (as its logarithm, so it stays positive) where their
    scripts keep 50 (`learn_lambda=False`); the number of support images is each episode's own, so shots may
    be unequal; a linear system is solved where they invert a matrix. MetaOptNet's R2-D2 instead has no bias,
    penalty 50 whatever the number of images, and a scale only.
    """

    label, family = "R2D2", "episodic"
    published, colour = True, "#D55E00"

    def __init__(
        self,
        backbone: nn.Module | None,
        init_lambda: float = 50.0,
        init_scale: float = 10.0,
        learn_lambda: bool = True,
    ) -> None:
        super().__init__(backbone)
        if not init_lambda > 0:
            raise ConfigError(f"r2d2: init_lambda must be positive, got {init_lambda}")
        log_lambda = torch.tensor(float(init_lambda)).log()
        if learn_lambda:
            self.log_lambda = nn.Parameter(log_lambda)
        else:
            self.register_buffer("log_lambda", log_lambda)
        self.scale = nn.Parameter(torch.tensor(float(init_scale)))
        self.bias = nn.Parameter(torch.zeros(()))

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        targets = F.one_hot(support_labels + 1, n_way + 1)[..., 1:].to(support.dtype)  # (B, n_support, n_way)
        inputs = F.pad(support, (0, 1), value=1.0)  # (B, n_support, D + 1)
        inputs = inputs.masked_fill((support_labels < 0)[..., None], 0.0)
        n_images = (support_labels >= 0).sum(1).clamp_min(1)  # (B,)
        weights = ridge(inputs, targets, self.log_lambda.exp() * n_images)  # (B, D + 1, n_way)
        regression = F.pad(query, (0, 1), value=1.0) @ weights  # (B, n_query, n_way)
        return mask_absent(self.scale * regression + self.bias, targets.sum(1) > 0)


def ridge(inputs: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """Compute W (B, D, m) that minimises |`inputs` W − `targets`|² + `penalty` |W|², sums of squares.

    `inputs` (B, n, D), `targets` (B, n, m), `penalty` (B,) > 0. The system solved is n x n where n < D
    (the Woodbury identity: Xᵀ(XXᵀ + pI)⁻¹ = (XᵀX + pI)⁻¹Xᵀ), else D x D. Rows of zeros have no effect.
    """
    transposed = inputs.transpose(1, 2)
    n, dim = inputs.shape[1:]
    gram = inputs @ transposed if n < dim else transposed @ inputs
    system = gram + penalty[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    if n < dim:
        return transposed @ torch.linalg.solve_ex(system, targets).result  # `solve` waits for a GPU's errors
    return torch.linalg.solve_ex(system, transposed @ targets).result
