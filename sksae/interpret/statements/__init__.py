"""Statements about a target, in words that are tested on texts that nobody has read."""

from sksae.interpret.statements._annotation import annotate, estimate_annotation_cost
from sksae.interpret.statements._validation import split_texts, validate

__all__ = ["annotate", "estimate_annotation_cost", "split_texts", "validate"]


def __dir__():
    return __all__
