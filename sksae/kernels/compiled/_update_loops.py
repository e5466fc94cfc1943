"""Loops that update weights: gradients along the sphere, clipping, and the step of Adam."""

import numpy as np

from sksae.kernels.compiled._row_loops import by_rows, compiled, dot

_TINY = 1e-30  # moments below it are 0: processors take long over numbers close to underflow


@compiled
def _project_rows(grad, weight, start, stop):
    """Remove from every row of a gradient what points along the unit row of the weight."""
    for r in range(start, stop):
        g, w = grad[r], weight[r]
        along = dot(g, w)
        for j in range(len(g)):
            g[j] -= along * w[j]


def project(grad, weight):
    """Remove from every row of a gradient, in place, what points along the unit row of the weight.

    Parameters
    ----------
    grad, weight : Tensor of shape (m, d)
    """
    by_rows(_project_rows, len(grad), grad.numel(), grad.numpy(), weight.numpy())


@compiled
def _adam_rows(weight, grad, first, second, numbers, on_sphere, start, stop):
    """One step of Adam, with what `_adam_numbers` returns."""
    # All of the weights' dtype, in which the loop stays; and in one function, or it stays slow.
    clip, rate, beta1, beta2, correction, epsilon, tiny = numbers
    one = weight.dtype.type(1)
    zero, rest1, rest2 = one - one, one - beta1, one - beta2
    for r in range(start, stop):
        w, g, m, v = weight[r], grad[r], first[r], second[r]
        for j in range(len(w)):
            slope = clip * g[j]
            mean = beta1 * m[j] + rest1 * slope
            square = beta2 * v[j] + rest2 * slope * slope
            m[j], v[j] = mean if abs(mean) > tiny else zero, square
            w[j] -= rate * mean / (np.sqrt(square) * correction + epsilon)
        if on_sphere:
            scale = one / np.sqrt(dot(w, w))
            for j in range(len(w)):
                w[j] *= scale


def _adam_numbers(dtype, *, step, learning_rate, betas, clip):
    """Return the numbers that `_adam_rows` takes, as an array."""
    corrections = [1 - beta**step for beta in betas]
    rate, correction = learning_rate / corrections[0], corrections[1] ** -0.5
    with np.errstate(over="ignore"):  # a rate beyond float32: the loss will say so
        return np.array([clip, rate, *betas, correction, 1e-8, _TINY], dtype)


def update(weight, grad, moments, *, step, learning_rate, betas, clip, on_sphere):
    """One step of Adam by ``clip * grad``, in place, and back to the sphere.

    Parameters
    ----------
    weight, grad : Tensor of shape (m, d) or (m,)
    moments : pair of Tensor
        Of the same shape.
    step : int
        Number of this step, from 1 on.
    learning_rate : float
    betas : tuple of float
    clip : float
    on_sphere : bool
        Whether rows keep the norm 1.
    """
    width = weight.shape[-1]
    arrays = [tensor.numpy().reshape(-1, width) for tensor in (weight, grad, *moments)]
    options = {"step": step, "learning_rate": learning_rate, "betas": betas, "clip": clip}
    numbers = _adam_numbers(arrays[0].dtype, **options)
    by_rows(_adam_rows, len(arrays[0]), weight.numel(), *arrays, numbers, on_sphere)


@compiled
def _update(weights, grads, first, second, numbers, on_sphere, max_norm):
    square = 0.0
    for i in range(len(weights)):
        if on_sphere[i]:
            _project_rows(grads[i], weights[i], 0, len(weights[i]))
        # Rows lie one after another.
        square += dot(grads[i].ravel(), grads[i].ravel())
    numbers[:, 0] = min(1.0, max_norm / (np.sqrt(square) + 1e-6))
    for i in range(len(weights)):
        moments = first[i], second[i]
        _adam_rows(weights[i], grads[i], *moments, numbers[i], on_sphere[i], 0, len(weights[i]))


def update_at_once(weights, grads, moments, *, learning_rates, unit_norm, max_norm, step, betas):
    """Project, clip, one step of Adam and back to the sphere, for all weights, in place.

    Parameters
    ----------
    weights, grads : list of Tensor
        Gradients are changed.
    moments : list of pair of Tensor
    learning_rates : list of float
    unit_norm : list of bool
        Whether rows of the weight keep the norm 1.
    max_norm : float
        Bound of the norm of all gradients.
    step : int
    betas : pair of float
    """
    first, second = zip(*moments, strict=True)
    arrays = [
        tuple(tensor.numpy().reshape(-1, tensor.shape[-1]) for tensor in tensors)
        for tensors in (weights, grads, first, second)
    ]
    options = {"step": step, "betas": betas, "clip": 1.0}
    dtype = arrays[0][0].dtype
    numbers = [_adam_numbers(dtype, learning_rate=rate, **options) for rate in learning_rates]
    _update(*arrays, np.stack(numbers), np.array(unit_norm), max_norm)
