"""The parameters that the numeric fixtures of the variants share, in float64."""

import torch

from sksae.training import AllEntries


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


X = tensor([[1, 2], [-1, 0.5]])
W = torch.ones(2, dtype=torch.float64)
ENCODER = tensor([[0.9, 0.1], [-0.2, 1.1], [0.5, 0.5]])
ENCODER_INTERCEPT = tensor([0.1, -0.2, 0.05])
INTERCEPT = tensor([0.1, 0.2])
FREE = tensor([[2, 0], [0, 0.5], [0.6, 0.8]])
UNIT = tensor([[1, 0], [0, 1], [0.6, 0.8]])


def weights(components, **more):
    """Leaf tensors by weight name."""
    values = {
        "components": components,
        "encoder_coef": ENCODER,
        "encoder_intercept": ENCODER_INTERCEPT,
        "intercept": INTERCEPT,
        **more,
    }
    return {name: value.clone().requires_grad_() for name, value in values.items()}


def objective_of(sae, w):
    """The objective of an estimator for weights of these shapes."""
    (m, t), d = w["components"].shape, w["encoder_coef"].shape[1]
    return sae._make_objective(d, m, t)


def entries_of(objective, w, x=X, rows=W):
    """All entries of the rows `x` under the weights `w`."""
    options = {"pre_bias": objective.pre_bias, "linear_maps": objective.linear_maps}
    options["blocks"] = objective.widths_of_blocks
    return AllEntries(x, rows, w, objective.rule(w), **options)


def loss_and_gradients(sae, w, *, alpha=0.0, dead=None, x=X, rows=W):
    """Loss, codes and gradients by weight name of an estimator's objective."""
    if dead is None:
        dead = torch.zeros(len(w["components"]), dtype=torch.bool)
    objective = objective_of(sae, w)
    loss, codes = objective.loss(entries_of(objective, w, x, rows), alpha, dead)
    loss.backward()
    return loss.item(), codes.detach(), {name: value.grad for name, value in w.items()}


def assert_close(actual, expected, atol=5e-10):
    """Compare to the printed digits."""
    if not isinstance(expected, torch.Tensor):
        expected = tensor(expected)
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64), expected, rtol=0, atol=atol
    )
