"""What an atlas is fitted on: codes, rows that an autoencoder codes, or texts."""

import numpy as np
from scipy import sparse

from sksae._arrays import two_axes
from sksae._coding import sparse_coder, sparse_codes
from sksae.interpret._strongest import check_codes
from sksae.interpret.atlas._blocks import block_of, pieces
from sksae.interpret.atlas._coactivation import map_of, nearest_directions
from sksae.interpret.atlas._collection import Collection
from sksae.language_models import ActivationExtractor, logit_lens


def collect(atlas, X, tokens):
    """Return the `Collection` of one pass over X, and what its token table says about itself."""
    codes_of, width, chunks = _prepared(atlas, X, tokens)
    sizes = ("n_examples", "n_per_octave", "n_silent", "before", "after")
    sizes = {name: getattr(atlas, name) for name in sizes}
    collection = Collection(width, **sizes, seed=atlas.random_state)
    policy = {}
    for first, rows, table in chunks:
        policy = policy or dict(getattr(table, "policy", {}))
        for some, parts in pieces(table, rows.shape[0], collection.strings):
            if first:
                parts["source"] = parts["source"] + first
            codes = codes_of(rows[some])
            collection.add(block_of(codes, parts, collection.starts()))
    if not collection.tallies.n_rows:
        raise ValueError("X has no rows: there is nothing to look at.")
    return collection, policy


def _prepared(atlas, X, tokens):
    """Return what codes rows, how many features there are, and chunks ``(first, rows, table)``."""
    if hasattr(X, "string"):
        raise TypeError("X is a token table; rows come first, as in fit(X, tokens=tokens).")
    if atlas.extractor is None and not hasattr(X, "shape"):
        X = np.asarray(X)
    if atlas.extractor is None and getattr(getattr(X, "dtype", None), "kind", "f") in "USO":
        raise ValueError("X holds texts or other objects: texts need an 'extractor'.")
    if atlas.sae is None:
        if atlas.extractor is not None:
            raise ValueError("An extractor needs a fitted 'sae' to code what it reads.")
        codes = check_codes(X)
        if codes.dtype == np.float16:  # there are no sparse ones
            return _sparse_halves, codes.shape[1], [(0, codes, tokens)]
        return sparse.csr_array, codes.shape[1], [(0, codes, tokens)]
    coder = sparse_coder(atlas.sae)
    width = len(coder.get_feature_names_out())

    def codes_of(rows):
        return sparse_codes(coder, rows, width)

    if atlas.extractor is None:
        if X.ndim != 2:
            rows = f" X{two_axes(X.shape)}." if X.ndim > 2 else ""
            raise ValueError(f"X must be 2-D, rows by features; got shape {tuple(X.shape)}.{rows}")
        return codes_of, width, [(0, X, tokens)]
    if not isinstance(atlas.extractor, ActivationExtractor):
        raise ValueError(
            "The 'extractor' parameter of FeatureAtlas must be an ActivationExtractor or None. "
            f"Got {atlas.extractor!r} instead."
        )
    if tokens is not None:
        raise ValueError(
            "With an extractor X is texts, which have their tokens: leave out tokens=."
        )
    return codes_of, width, atlas.extractor.extract_chunks(X)


def _sparse_halves(codes):
    return sparse.csr_array(codes.astype(np.float32))


def directions_of(atlas, coactivation):
    """Return the arrays about neighbours: near ones where there are directions, and partners."""
    size = max(min(atlas.n_neighbors, len(coactivation.n_active) - 1), 0)
    partners = coactivation.partners(size)
    groups = {"partner": partners}
    arrays = {}
    coder = None if atlas.sae is None else sparse_coder(atlas.sae)
    components = getattr(coder, "components_", None)
    if components is not None:
        components = np.asarray(components, dtype=np.float32)
        groups["nearest"], arrays["nearest_cosine"] = nearest_directions(components, size)
        arrays["map"] = map_of(components)
        unit = components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-30)
        cosine = arrays["partner_cosine"] = np.empty(partners.shape, dtype=np.float32)
        for rank, other in enumerate(np.maximum(partners, 0).T):
            cosine[:, rank] = np.einsum("ij,ij->i", unit, unit[other])
    else:
        arrays["partner_cosine"] = np.full(partners.shape, np.nan, dtype=np.float32)
    for name, features in groups.items():
        jaccard, conditional = coactivation.together(features)
        arrays |= {name: features, f"{name}_jaccard": jaccard, f"{name}_conditional": conditional}
    return arrays


def lens_of(atlas):
    """Return the `LogitLens` of all features, or None without a language model."""
    if atlas.language_model is None:
        if atlas.tokenizer is not None:
            raise ValueError("The 'tokenizer' parameter goes with 'language_model', which is None.")
        return None
    if atlas.sae is None:
        raise ValueError("A 'language_model' needs a fitted 'sae', whose directions it reads.")
    return logit_lens(
        atlas.language_model,
        sparse_coder(atlas.sae),
        n_tokens=atlas.n_tokens,
        tokenizer=atlas.tokenizer,
    )


def logits_of(lens, strings):
    """Return the arrays about promoted and suppressed tokens, if there is a lens."""
    arrays = {}
    if lens is None:
        return arrays
    for side in ("promoted", "suppressed"):
        tokens = getattr(lens, side)
        arrays[side] = strings.number(tokens.ravel().tolist()).reshape(tokens.shape)
        arrays[f"{side}_logits"] = np.asarray(getattr(lens, f"{side}_logits"), dtype=np.float32)
    return arrays
