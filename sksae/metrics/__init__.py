"""Metrics of reconstruction, sparsity and dictionaries, and scorers made from them."""

from sksae.metrics._code_measures import (
    dead_fraction,
    dense_fraction,
    l0,
    l0_per_row,
    l1,
    latent_density,
    latent_precision_recall_f1,
)
from sksae.metrics._dictionaries import (
    dictionary_redundancy,
    dictionary_uniqueness,
    encoder_decoder_cosine,
    matched_cosine_similarity,
    matched_cosines,
    mean_max_cosine_similarity,
    nearest_atoms,
)
from sksae.metrics._latent_scaling import LatentScaling, latent_scaling
from sksae.metrics._reconstruction import (
    explained_variance,
    fraction_of_variance_unexplained,
    l2_ratio,
    mean_cosine_similarity,
    mean_squared_reconstruction_error,
    relative_reconstruction_bias,
)
from sksae.metrics._scorers import (
    explained_variance_scorer,
    make_penalized_scorer,
    mean_cosine_similarity_scorer,
    neg_dead_fraction_scorer,
    neg_l0_scorer,
    neg_mean_squared_error_scorer,
    sae_scorer,
)

__all__ = [
    "LatentScaling",
    "dead_fraction",
    "dense_fraction",
    "dictionary_redundancy",
    "dictionary_uniqueness",
    "encoder_decoder_cosine",
    "explained_variance",
    "explained_variance_scorer",
    "fraction_of_variance_unexplained",
    "l0",
    "l0_per_row",
    "l1",
    "l2_ratio",
    "latent_density",
    "latent_precision_recall_f1",
    "latent_scaling",
    "make_penalized_scorer",
    "matched_cosine_similarity",
    "matched_cosines",
    "mean_cosine_similarity",
    "mean_cosine_similarity_scorer",
    "mean_max_cosine_similarity",
    "mean_squared_reconstruction_error",
    "nearest_atoms",
    "neg_dead_fraction_scorer",
    "neg_l0_scorer",
    "neg_mean_squared_error_scorer",
    "relative_reconstruction_bias",
    "sae_scorer",
]


def __dir__():
    return __all__
