"""What a fitted estimator computes, for files of other libraries."""

from typing import NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch
from sksae.autoencoders import Transcoder
from sksae.formats._raw_units import product
from sksae.formats._row_normalizer import RowNormalizer

_ARRAYS = ("components", "intercept", "encoder_coef", "encoder_intercept")
_OPTIONAL = ("threshold", "gate_intercept", "gain", "skip_coef", "activation_frequency")


class Fitted(NamedTuple):
    """The activation, the arrays, and where they are from, if that is known."""

    activation: str
    arrays: dict
    source: dict
    normalizer: RowNormalizer | None
    k: float | None
    transcoder: bool


def read_fitted(sae, *, normalizers=(), transcoders=False):
    """Return what a writer needs to know about an estimator.

    Parameters
    ----------
    sae : BaseSAE or Pipeline
    normalizers : sequence of str
        Methods of a `RowNormalizer` that the format can hold.
    transcoders : bool
        Whether the format can say that other rows are predicted than those that are encoded.

    Raises
    ------
    TypeError
        If it is no sparse autoencoder.
    ValueError
        If other steps stand before it, or it is a transcoder and the format has none.
    """
    sae, normalizer = _parts(sae)
    transcoder = isinstance(sae, Transcoder)
    if transcoder and not transcoders:
        raise ValueError(
            "This format cannot say that other activations are predicted than those that are read: "
            "write a Transcoder with write_saelens or write_sparsify."
        )
    if normalizer is not None and normalizer.method not in normalizers:
        raise ValueError(
            f"This format has no place for {normalizer}. Write the autoencoder without it, and "
            f"normalise the rows that it is given."
        )
    check_is_fitted(sae)
    missing = [name + "_" for name in _ARRAYS if not hasattr(sae, name + "_")]
    if missing:
        raise TypeError(f"{type(sae).__name__} has no {missing[0]}, as a sparse autoencoder has.")
    names = [*_ARRAYS, *(name for name in _OPTIONAL if hasattr(sae, name + "_"))]
    arrays = {name: to_torch(getattr(sae, name + "_")).cpu().numpy() for name in names}
    arrays = {
        name: np.broadcast_to(a, (len(arrays["components"]),)) if a.ndim == 0 else a
        for name, a in arrays.items()
    }
    k = getattr(sae, "k_", None)
    k = int(k) if k is not None and float(k).is_integer() else k
    return Fitted(
        _activation(arrays, k), arrays, getattr(sae, "source_", {}), normalizer, k, transcoder
    )


def only(found, activations, name):
    """Raise a ValueError unless a format can hold the activation."""
    if found.activation not in activations:
        words = {
            "relu": "a ReLU",
            "topk": "the k largest of a row",
            "batchtopk": "a threshold a latent",
            "jumprelu": "a threshold a latent",
            "gated": "a gate",
        }
        can = " or ".join(dict.fromkeys(words[a] for a in activations))
        raise ValueError(
            f"{name} can hold {can}, but the codes of this estimator are made by "
            f"{words[found.activation]}."
        )


def bias_after(found):
    """Return the encoder's bias for libraries that subtract the decoder's bias first."""
    arrays = found.arrays
    shift = product(arrays["encoder_coef"], arrays["intercept"])
    return (arrays["encoder_intercept"] + shift).astype(arrays["components"].dtype)


def _activation(arrays, k):
    if "gain" in arrays:
        return "gated"
    if "threshold" in arrays:
        return "jumprelu" if k is None else "batchtopk"
    return "relu" if k is None else "topk"


def _parts(sae):
    if not isinstance(sae, Pipeline):
        return sae, None
    steps = [step for _, step in sae.steps if step not in (None, "passthrough")]
    if len(steps) == 2 and isinstance(steps[0], RowNormalizer):
        return steps[1], steps[0]
    if len(steps) == 1:
        return steps[0], None
    raise ValueError(
        f"Only the autoencoder can be written, but {type(steps[0]).__name__} changes the rows "
        f"before it does. Write the last step of the pipeline by itself."
    )
