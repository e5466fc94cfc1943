import pytest
import torch

from sksae.kernels import heaviside, jump_relu

Z = torch.tensor([[1.09, 1.6, 1.4], [-0.86, 0.35, -0.35]], dtype=torch.float64)
THRESHOLD = torch.tensor([1, 0.4, 1.5], dtype=torch.float64)
GRADIENT = torch.tensor([[0.19, -0.2, -0.046], [1.1, -0.3, 0.42]], dtype=torch.float64)
NEAR = torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=torch.float64)


def gradients(function, to_input):
    z, threshold = Z.clone().requires_grad_(), THRESHOLD.clone().requires_grad_()
    function(z, threshold, 0.5, to_input=to_input).backward(GRADIENT)
    return z.grad, threshold.grad


@pytest.mark.parametrize("to_input", [False, True])
def test_jump_relu(to_input):
    z, threshold = gradients(jump_relu, to_input)
    jump = NEAR * THRESHOLD / 0.5 * GRADIENT
    torch.testing.assert_close(threshold, -jump.sum(0))
    expected = torch.where(Z > THRESHOLD, GRADIENT, 0.0) + (jump if to_input else 0)
    torch.testing.assert_close(z, expected)


@pytest.mark.parametrize("to_input", [False, True])
def test_heaviside(to_input):
    z, threshold = gradients(heaviside, to_input)
    jump = NEAR / 0.5 * GRADIENT
    torch.testing.assert_close(threshold, -jump.sum(0))
    if to_input:
        torch.testing.assert_close(z, jump)
    else:
        assert z is None or not z.any()


def test_the_estimate_is_the_derivative_of_the_expectation():
    """Averaged over many rows, the kernel gives minus the density at the threshold."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200_000, 1, generator=generator, dtype=torch.float64)
    threshold = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    heaviside(z, threshold, 0.2).mean().backward()
    density = torch.exp(torch.tensor(-0.125)) / (2 * torch.pi) ** 0.5
    assert abs(float(threshold.grad) + float(density)) < 0.01
