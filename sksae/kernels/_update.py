"""The update of weights: gradients along the sphere, and the step of Adam."""

import torch
from torch.optim.adam import adam

from sksae.kernels._active import compiled_for, uses_triton


def project(grad, weight):
    """Remove from every row of a gradient, in place, what points along the unit row of the weight.

    Parameters
    ----------
    grad, weight : Tensor of shape (m, d)
    """
    if loops := compiled_for(grad):
        loops.project(grad, weight)
    else:
        grad.addcmul_(weight, torch.linalg.vecdot(grad, weight)[:, None], value=-1)


def adam_step(weights, grads, moments, *, learning_rates, unit_norm, step, betas, clip=1.0):
    """One step of Adam by ``clip * grad`` (Kingma and Ba 2015), in place, and back to the sphere.

    Parameters
    ----------
    weights, grads : list of Tensor
        Gradients may be changed.
    moments : list of pair of Tensor
        Running means of every gradient and of its square.
    learning_rates : list of float
        One per weight.
    unit_norm : list of bool
        Whether rows of the weight keep the norm 1.
    step : int
        Number of this step, from 1 on.
    betas : pair of float
    clip : float, default=1.0
    """
    if loops := compiled_for(weights[0]):
        parts = zip(weights, grads, moments, learning_rates, unit_norm, strict=True)
        for *part, rate, is_unit in parts:
            loops.update(
                *part, learning_rate=rate, on_sphere=is_unit, step=step, betas=betas, clip=clip
            )
        return
    if clip != 1:
        grads = [grad.mul_(clip) for grad in grads]
    for rate in sorted(set(learning_rates)):
        of_rate = [i for i, other in enumerate(learning_rates) if other == rate]
        group = ([tensors[i] for i in of_rate] for tensors in (weights, grads, moments))
        _torch_adam(*group, rate, step, betas)
    for weight, is_unit in zip(weights, unit_norm, strict=True):
        if is_unit:
            weight /= torch.linalg.vector_norm(weight, dim=1, keepdim=True)


def _torch_adam(weights, grads, moments, learning_rate, step, betas):
    first, second = map(list, zip(*moments, strict=True))
    options = {
        "lr": learning_rate,
        "beta1": betas[0],
        "beta2": betas[1],
        "weight_decay": 0.0,
        "eps": 1e-8,
        "amsgrad": False,
        "maximize": False,
    }
    steps = torch.tensor(float(step))
    if weights[0].device.type == "cpu" and hasattr(torch, "_fused_adam_"):
        # What torch.optim.adam calls after checks that take longer than a small step.
        torch._fused_adam_(weights, grads, first, second, [], [steps] * len(weights), **options)
        return
    # It adds 1 to the steps before this one.
    steps = [(steps - 1).to(weights[0].device) for _ in weights]
    fused = weights[0].device.type in ("cpu", "cuda")
    adam(weights, grads, first, second, [], steps, fused=fused, **options)


def update_latents(weight, moments, segments, **step):
    """One step of Adam by the sums that the gradient of `weight` is, where Triton runs.

    Parameters
    ----------
    weight : Tensor of shape (m, d)
    moments : pair of Tensor of shape (m, d)
    segments : callable
        Returns what `segment_sums` takes, ``(values, pointer, indices, matrix)`` with the latents
        as segments, or None if the gradient is more than that.
    **step
        The rest of what ``_triton.update_latents`` takes.

    Returns
    -------
    done : bool
        False where the gradient has to be made first.
    """
    gradient = segments() if uses_triton(weight) else None
    if gradient is None:
        return False
    from sksae.kernels import _triton

    _triton.update_latents(weight, moments, gradient, **step)
    return True
