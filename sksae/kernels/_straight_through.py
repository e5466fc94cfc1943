"""Steps with a pseudo-derivative (Rajamanoharan et al. 2024, arXiv 2407.14435).

With the rectangle kernel ``K(u) = 1[|u| < 1/2]`` of bandwidth `eps`, the gradient of the expected
value with respect to the threshold is estimated by the rows that lie within ``eps / 2`` of it.
"""

import torch

from sksae.kernels._selection import where_positive


def near_threshold(z, threshold, bandwidth):
    """Mask of the entries within the rectangle kernel around their thresholds."""
    return (z - threshold).abs() < bandwidth / 2


class _JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, threshold, bandwidth, to_input):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth, ctx.to_input = bandwidth, to_input
        return where_positive(z - threshold, z)

    @staticmethod
    def backward(ctx, grad):
        z, threshold = ctx.saved_tensors
        # z 1[z > threshold] jumps by `threshold`, which the kernel smooths over the bandwidth; the
        # threshold moves the jump the other way than z does.
        near = near_threshold(z, threshold, ctx.bandwidth).to(z.dtype)
        jump = near * threshold / ctx.bandwidth * grad
        # Above its threshold a code is z itself.
        passed = where_positive(z - threshold, grad)
        return (
            passed + jump if ctx.to_input else passed,
            # Rows share a threshold: (n, m) is summed to (m,).
            -jump.sum_to_size(threshold.shape),
            None,
            None,
        )


class _Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, threshold, bandwidth, to_input):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth, ctx.to_input = bandwidth, to_input
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx, grad):
        z, threshold = ctx.saved_tensors
        # As for JumpReLU, but the jump has height 1.
        near = near_threshold(z, threshold, ctx.bandwidth).to(z.dtype)
        jump = near / ctx.bandwidth * grad
        return jump if ctx.to_input else None, -jump.sum_to_size(threshold.shape), None, None


def jump_relu(z, threshold, bandwidth, *, to_input=False):
    """``z * 1[z > threshold]`` with the straight-through gradient.

    Parameters
    ----------
    z : Tensor of shape (n, m), or (nnz,) for some of the entries
        Pre-activations (not codes: half of the kernel lies below the threshold).
    threshold : Tensor of shape (m,), or of the shape of `z`
    bandwidth : float
        Width of the rectangle kernel, in the unit of `z`.
    to_input : bool, default=False
        Whether the jump's gradient also reaches `z` (Anthropic, January 2025), with the opposite
        sign, or the threshold alone (the JumpReLU paper).

    Returns
    -------
    codes : Tensor of shape (n, m)
    """
    return _JumpReLU.apply(z, threshold, bandwidth, to_input)


def heaviside(z, threshold, bandwidth, *, to_input=False):
    """``1[z > threshold]`` with the straight-through gradient; arguments as in `jump_relu`."""
    return _Heaviside.apply(z, threshold, bandwidth, to_input)
