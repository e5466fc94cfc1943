"""Layout of the file that `save` writes: one safetensors file with JSON in its header."""

VERSION = 1
HEADER, DIGEST, NUMBER = "sksae", "sha256", "float"
SCALARS = (
    "n_components_",
    "n_features_in_",
    "batch_size_",
    "learning_rate_",
    "n_iter_",
    "n_steps_",
    "single_target_",
)
"""Fitted numbers of every estimator; what its objective resolved comes beside them."""

CURVES = ("loss_curve_", "validation_scores_")
MOMENTS = ("first", "second")
FREQUENCY = "activation_frequency"
"""The fitted array that is no weight."""
