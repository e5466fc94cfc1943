"""Names in other libraries: sites of TransformerLens, features of circuit-tracer's viewers.

In TransformerLens, ``"blocks.3.hook_resid_post"`` is site 3.resid_post.
"""

import math
import re

IN_BLOCKS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
"""Sites of a block that have the same name in both libraries."""

_SITE = re.compile(rf"blocks\.(\d+)\.hook_({'|'.join(IN_BLOCKS)})")
_POINT = re.compile(r"blocks\.(\d+)\.([\w.]*hook_\w+)|([\w.]*hook_\w+)")


def site_of_hook(name):
    """Return ``(layer, site)`` of a hook on the residual stream or on a term of it, else None."""
    match = _SITE.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def point_of_hook(name):
    """Return ``(layer, point)`` of any hook, such as ``(3, "attn.hook_z")``, else None.

    The layer is None for hooks outside of the blocks.
    """
    match = _POINT.fullmatch(name)
    if not match:
        return None
    return (int(match[1]), match[2]) if match[1] else (None, match[3])


def cantor(layer, feature):
    """Return the Cantor number of a layer and a feature, which the viewers use."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def uncantor(number):
    """Return layer and feature of a Cantor number."""
    diagonal = (math.isqrt(8 * number + 1) - 1) // 2
    feature = number - diagonal * (diagonal + 1) // 2
    return diagonal - feature, feature
