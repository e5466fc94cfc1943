"""A fitted estimator as other libraries describe it: its activation and its arrays."""

from typing import NamedTuple

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch
from sksae._saved_layout import FREQUENCY
from sksae.autoencoders import Transcoder
from sksae.formats._raw_units import product
from sksae.formats._row_normalizer import RowNormalizer
from sksae.objectives import L1, BatchTopK, FrozenTopK, Gated, JumpReLU, Matryoshka, TopK

# Names that the formats give to the codes of an objective.
_ACTIVATIONS = {
    L1: "relu",
    TopK: "topk",
    FrozenTopK: "topk",
    BatchTopK: "batchtopk",
    Matryoshka: "matryoshka",
    JumpReLU: "jumprelu",
    Gated: "gated",
}


class Fitted(NamedTuple):
    """The activation, the arrays, and where they are from, if that is known."""

    activation: str
    arrays: dict
    source: dict
    normalizer: RowNormalizer | None
    k: float | None
    widths: tuple | None
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
    objective = getattr(sae, "_objective", None)
    if type(objective) not in _ACTIVATIONS or objective.blocks:
        raise TypeError(
            f"No format can hold a {type(sae).__name__}: write one of the autoencoders of sksae."
        )
    names = [name for name in (*objective.declared, FREQUENCY) if hasattr(sae, name + "_")]
    arrays = {name: to_torch(getattr(sae, name + "_")).cpu().numpy() for name in names}
    k = getattr(sae, "k_", None)
    # A whole number of codes as an int, which JSON and other libraries tell from a float.
    k = int(k) if k is not None and float(k).is_integer() else k
    activation = _ACTIVATIONS[type(objective)]
    source, widths = getattr(sae, "source_", {}), getattr(sae, "widths_", None)
    return Fitted(activation, arrays, source, normalizer, k, widths, transcoder)


def only(record, activations, name):
    """Raise a ValueError unless a format can hold the activation."""
    if record.activation not in activations:
        words = {
            "relu": "a ReLU",
            "topk": "the k largest of a row",
            "batchtopk": "a threshold per latent",
            "matryoshka": "a threshold per latent",
            "jumprelu": "a threshold per latent",
            "gated": "a gate",
        }
        can = " or ".join(dict.fromkeys(words[a] for a in activations))
        raise ValueError(
            f"{name} can hold {can}, but the codes of this estimator are made by "
            f"{words[record.activation]}."
        )


def bias_after(record):
    """Return the encoder's bias for libraries that subtract the decoder's bias first."""
    arrays = record.arrays
    # E (x - c) + b' = E x + b for b' = b + E c.
    shift = product(arrays["encoder_coef"], arrays["intercept"])
    return (arrays["encoder_intercept"] + shift).astype(arrays["components"].dtype)


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
