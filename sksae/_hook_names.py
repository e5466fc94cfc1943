"""Names that TransformerLens has for sites: ``"blocks.3.hook_resid_post"`` is site 3.resid_post."""

import re

IN_BLOCKS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
"""The sites of a block that have the same name here and there."""

_SITE = re.compile(rf"blocks\.(\d+)\.hook_({'|'.join(IN_BLOCKS)})")
_POINT = re.compile(r"blocks\.(\d+)\.([\w.]*hook_\w+)|([\w.]*hook_\w+)")


def site_of_hook(name):
    """Return ``(layer, site)`` of a hook on the stream or on what is added to it, else None."""
    found = _SITE.fullmatch(name)
    return (int(found[1]), found[2]) if found else None


def point_of_hook(name):
    """Return ``(layer, point)`` of any hook, such as ``(3, "attn.hook_z")``, else None.

    The layer is None for hooks outside of the blocks.
    """
    found = _POINT.fullmatch(name)
    if not found:
        return None
    return (int(found[1]), found[2]) if found[1] else (None, found[3])
