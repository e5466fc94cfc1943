"""Mistakes of a user that a type checker has to find: one in each line with a comment."""

import sksae
from sksae.metrics import l0


def mistakes() -> None:
    sksae.TopKSAE(k="four")  # expected: arg-type
    sksae.TopKSAE(normalise="rms")  # expected: call-arg
    sksae.TopKSAE(precision="single")  # expected: arg-type
    sksae.load(3)  # expected: arg-type
    l0([[1, 0]]).shape  # expected: attr-defined
    sksae.no_such_name  # expected: attr-defined
