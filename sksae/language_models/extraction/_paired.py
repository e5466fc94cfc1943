"""Activations of the same tokens in several models, side by side."""

from collections.abc import Mapping

import numpy as np

from sksae.language_models.extraction._activation_reader import ActivationReader
from sksae.language_models.extraction._extractor import ActivationExtractor
from sksae.language_models.extraction._input_items import check_container
from sksae.language_models.extraction._site_blocks import is_several


def extract_paired(extractors, X):
    """Return the activations of the same tokens in several models, side by side.

    Each model reads all of X, one after the other. What comes back is what a `Crosscoder` takes,
    with the blocks for its parameter of this name.

    Parameters
    ----------
    extractors : dict of str to ActivationExtractor
        Two or more extractors, by the names that their blocks get, such as ``"base"`` and
        ``"tuned"``: of several models, or of several stages of training of one. Sites and layers
        may differ; tokenizer and choice of tokens must be the same.
    X : iterable
        The texts, or what else the models read.

    Returns
    -------
    rows : ndarray of shape (n_tokens, n_features), dtype=float32
        One row per token, text after text; the columns of the first extractor come first.
    tokens : TokenTable of length n_tokens
        The table of the first extractor.
    blocks : dict of str to int
        Number of columns of each extractor by its name. Where one has several sites, there is a
        block for each, as ``"tuned.2.mlp_out"``.

    Raises
    ------
    TypeError
        If `extractors` is no dict of extractors.
    ValueError
        If there are less than two, one of them pools, or the rows of one would be other tokens, or
        in other windows, than those of the first.

    See Also
    --------
    ActivationExtractor : With lists of layers and sites, several places of one model.
    sksae.Crosscoder : Codes that the blocks share.

    Examples
    --------
    >>> from sksae import ActivationExtractor
    >>> from sksae.datasets import load_tiny_lm
    >>> from sksae.language_models import extract_paired, randomized_model
    >>> model, tokenizer = load_tiny_lm()
    >>> other, _ = randomized_model(model, random_state=0)
    >>> rows, tokens, blocks = extract_paired(
    ...     {
    ...         "trained": ActivationExtractor(model, layer=2, tokenizer=tokenizer),
    ...         "random": ActivationExtractor(other, layer=2, tokenizer=tokenizer),
    ...     },
    ...     ["Return the sum of the array."],
    ... )
    >>> rows.shape, len(tokens), blocks
    ((7, 384), 7, {'trained': 192, 'random': 192})
    """
    _check(extractors)
    check_container(X)
    items = list(X)  # each extractor reads them
    parts, blocks, first, table = [], {}, None, None
    for name, extractor in extractors.items():
        rows, tokens = extractor.extract(items)
        reader = ActivationReader(extractor)
        windows = getattr(reader.source, "max_length", None)
        if table is None:
            first, table, first_windows = name, tokens, windows
        elif difference := _difference(table, tokens) or _other_windows(first_windows, windows):
            raise ValueError(
                f"The rows of {name!r} are not those of {first!r}: {difference}. Both need one "
                f"tokenizer, and the same parameters that choose tokens and the length of windows."
            )
        labels = [f"{name}.{site}" if is_several(extractor) else name for site in reader.points]
        blocks.update(zip(labels, reader.widths(), strict=True))
        parts.append(rows)
    return np.hstack(parts), table, blocks


def _check(extractors):
    if not isinstance(extractors, Mapping) or not all(
        isinstance(extractor, ActivationExtractor) for extractor in extractors.values()
    ):
        raise TypeError(f"extractors must be a dict of ActivationExtractor. Got {extractors!r}.")
    if len(extractors) < 2:
        raise ValueError(f"extractors must be two or more. Got {len(extractors)}.")
    for name, extractor in extractors.items():
        if extractor.pooling is not None:
            raise ValueError(f"Tokens are paired, but {name!r} has pooling={extractor.pooling!r}.")


def _difference(first, second):
    """Say how the tokens of two tables differ; None if they do not."""
    n_texts = max(len(first.texts), len(second.texts))
    counts = [np.bincount(table.text, minlength=n_texts) for table in (first, second)]
    unequal = np.flatnonzero(counts[0] != counts[1])
    if len(unequal):
        text = int(unequal[0])
        return f"text {text} has {counts[1][text]} rows, and {counts[0][text]} there"
    for i in np.flatnonzero((first.id != second.id) | (first.position != second.position))[:1]:
        tokens = [
            f"{t.string[i]!r} (id {t.id[i]}, position {t.position[i]})" for t in (second, first)
        ]
        return f"a token of text {first.text[i]} is {tokens[0]}, and {tokens[1]} there"
    return None


def _other_windows(first, second):
    return None if first == second else f"its windows have {second} tokens, and {first} there"
