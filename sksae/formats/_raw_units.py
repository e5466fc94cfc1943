"""The weights of other libraries as weights that act on raw rows, their codes unchanged.

Everything that is affine is folded away: what is subtracted before encoding, factors on the way in
and out, the gain of a gated encoder. Sums over features are in float64.
"""

import numpy as np

from sksae._arrays import row_chunks
from sksae.autoencoders import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
    fitted,
)


def raw_units(
    encoder,
    decoder,
    bias,
    intercept,
    *,
    origin=None,
    threshold=None,
    gate=None,
    log_gain=None,
    skip=None,
    scale=1.0,
    by_norm=False,
    path,
):
    """Return the weights of an estimator by name; see `sksae.autoencoders.fitted`.

    Parameters
    ----------
    encoder, decoder : ndarray of shape (n, d)
        One row per latent. The decoder of a transcoder is of shape (n, t).
    bias : ndarray of shape (n,)
        Of the encoder; of the magnitudes where there is a gate.
    intercept : ndarray of shape (d,) or (t,)
        Of the decoder.
    origin : ndarray of shape (d,), optional
        What is subtracted before encoding.
    threshold : float or ndarray of shape (n,), optional
    gate, log_gain : ndarray of shape (n,), optional
        Bias of the gate, and logarithm of what makes its weights those of the magnitudes.
    skip : ndarray of shape (t, d), optional
        What is added to a prediction, by what rows are multiplied with from the right.
    scale : float
        What rows are multiplied with first, and reconstructions divided by last.
    by_norm : bool
        Whether pre-activations are multiplied with the norms of the decoder's rows, and codes
        divided by them to decode.
    path : Path
        Where the weights are from, for errors.
    """
    dtype = encoder.dtype
    encoder, decoder = np.ascontiguousarray(encoder), np.ascontiguousarray(decoder)
    # W (x - origin) + b = W x + (b - W origin), and the same of magnitudes times their gain.
    shift = 0.0 if origin is None else product(encoder, origin)
    gain = np.ones(len(encoder)) if log_gain is None else _exp(log_gain, dtype, path)  # (n,)
    bias = bias.astype(np.float64) - gain * shift
    weights = {}
    if gate is not None:
        # The gate W x + gate > 0 holds where the magnitude z = gain W x + bias > bias - gain gate.
        gate = gate.astype(np.float64) - shift
        threshold = np.maximum(bias - gain * gate, 0.0)
        weights = {"gate_intercept": gate, "gain": gain}
    factor = gain * scale  # (n,)
    if by_norm:
        norms = np.linalg.norm(decoder, axis=1)
        factor, bias = factor * norms, bias * norms
        # Codes are |D_j| times as large, and their rows of the decoder have norm 1.
        # A latent without a direction keeps its zeros.
        decoder = decoder / np.where(norms > 0, norms, 1)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        if np.any(factor != 1):
            encoder = encoder * factor.astype(dtype)[:, None]
        if scale != 1:
            # The decoder predicts scale times the row.
            decoder, intercept = decoder / dtype.type(scale), intercept / scale
    if threshold is not None:
        weights["threshold"] = np.array(np.broadcast_to(threshold, bias.shape))
    if skip is not None:
        weights["skip_coef"] = skip
    weights = {**weights, "encoder_coef": encoder, "components": decoder, "intercept": intercept}
    weights["encoder_intercept"] = bias
    with np.errstate(over="ignore"):
        weights = {name: value.astype(dtype, copy=False) for name, value in weights.items()}
    if not all(np.isfinite(value).all() for value in weights.values()):
        raise ValueError(f"{path} cannot be used: its weights overflow {dtype}.")
    return weights


def center_rows(sae):
    """Let an autoencoder of rows without their mean over features read rows as they are.

    ``E (x - mean(x) 1) = (E - mean(E) 1^T) x``, so that the mean goes into what multiplies rows.
    """
    for name in ("encoder_coef", *sae._objective.linear_maps):
        coef = getattr(sae, name + "_")
        mean = coef.mean(axis=1, keepdims=True, dtype=np.float64)  # (m, 1)
        # E x_c = E x - mean(x) E 1 = (E - mean(E)) x, with the mean of each row of E.
        setattr(sae, name + "_", coef - mean.astype(coef.dtype))


def _exp(logs, dtype, path):
    """Return exponentials in float64, if the dtype of the weights can hold them too."""
    limits = np.finfo(dtype)
    if (logs < np.log(limits.tiny)).any() or (logs > np.log(limits.max)).any():
        raise ValueError(f"{path} cannot be used: the exponentials of its gains overflow {dtype}.")
    return np.exp(logs.astype(np.float64))


def product(encoder, x):
    """Return ``encoder @ x`` in float64, without a copy of the whole encoder in it."""
    out = np.empty(len(encoder))
    for rows in row_chunks(len(encoder), encoder.shape[1]):
        out[rows] = encoder[rows].astype(np.float64) @ x.astype(np.float64)
    return out


def estimator(
    activation, weights, source, *, k=None, widths=None, frequency=None, transcoder=False
):
    """Return a fitted estimator of the class with this activation.

    Parameters
    ----------
    activation : {"relu", "topk", "batchtopk", "matryoshka", "jumprelu", "gated"}
    weights : dict of ndarray
        From `raw_units`.
    source : dict
    k : int, optional
    widths : sequence of int, optional
        Numbers of latents of nested dictionaries.
    frequency : ndarray of shape (n,), optional
        How often each latent fires, where that is known.
    transcoder : bool
        Whether other rows are predicted than those that are encoded, or not from the codes alone.
    """
    width = len(weights["components"])
    if frequency is not None:
        weights = {**weights, "activation_frequency": frequency}
    classes = {
        "relu": SparseAutoencoder,
        "topk": TopKSAE,
        "batchtopk": BatchTopKSAE,
        "matryoshka": MatryoshkaSAE,
        "jumprelu": JumpReLUSAE,
        "gated": GatedSAE,
    }
    options = {"k": k, "widths": widths}
    options = {name: value for name, value in options.items() if value is not None}
    sae = classes[activation](width, **options)
    if transcoder:
        sae = Transcoder(sae, skip="skip_coef" in weights)
    return fitted(sae, weights, source=source)
