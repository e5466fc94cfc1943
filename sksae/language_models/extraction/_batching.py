"""Trial passes that determine which windows a model may read in one batch.

The activations of a text must not depend on the texts beside it. In most models a mask keeps the
padding away from the tokens. Where it does not (a Fourier transform over all positions, a
convolution, a forward pass that drops the mask), only windows of one length are read together;
where sequences of one length reach each other, each window is read alone.
"""

import contextlib
import inspect
import weakref
from typing import NamedTuple

import numpy as np
import torch

from sksae.language_models.model import (
    own_pass,
    refuse_repeated,
    text_config,
    visiting,
    without_cache,
    without_interventions,
)

PADDED = "padded"
EQUAL_LENGTHS = "equal lengths"
ALONE = "alone"

_LONG, _SHORT = 11, 4  # tokens of the trial's sequences; three of them are no square batch

# The largest difference that is rounding, relative to the norm of a row: by bytes per number.
_ROUNDING = {2: 0.03, 4: 1e-3, 8: 1e-3}
# Reading each window alone is slow: that sequences of one length mix has to be beyond doubt.
_BEYOND_DOUBT = 8

_results = weakref.WeakKeyDictionary()  # base: {(hook point, key): batching}


class TrialSequences(NamedTuple):
    """Sequences to try a model with.

    Parameters
    ----------
    long, second, short : ndarray
        Three sequences, of which the first two have the same length.
    lengths : tuple of int
        Numbers of tokens of `long` and of `short`; None if they are not known.
    """

    long: np.ndarray
    second: np.ndarray  # as long as `long`
    short: np.ndarray
    lengths: tuple


def trial_ids(limit, n_vocabulary):
    """Return the token ids of the three sequences of a trial, of at most `limit` tokens each."""
    n_long = min(_LONG, limit)
    # At most half as long, so that much of the short sequence is padding.
    n_short = min(_SHORT, max(1, n_long // 2))
    # Different ids, as far as the vocabulary goes.
    ids = (1 + np.arange(2 * n_long + n_short)) % n_vocabulary
    return np.split(ids, [n_long, 2 * n_long])


def batching_of(base, point, source, read, *, key=()):
    """Find the windows that may share a forward pass; each hook point is tried once.

    Parameters
    ----------
    base : torch.nn.Module
        A model without its head.
    point : HookPoint or None
        The hook point whose activations are read; None stands for the final hidden states.
    source : TextSource or ImageSource
        The source of the `TrialSequences`, which is made the first time, and of inputs.
    read : callable
        ``read(inputs, shape)`` returns the activations, (n_sequences, n_tokens, n_features), and
        raises a ValueError if the first two are not `shape`; None allows any.
    key : hashable, default=()
        The options that the inputs depend on besides the sequences.

    Returns
    -------
    batching : {"padded", "equal lengths", "alone"}
        All, those of one length, or none.

    Raises
    ------
    ValueError
        If the module runs several times in a pass, reads other tokens than those given, or has not
        one row per token.
    """
    results, key = _results.setdefault(base, {}), (point, key)
    if key not in results:
        with without_interventions():
            trial = source.trial()
            if point is not None:
                _check_one_row(base, point, source.inputs([trial.long]))
            results[key] = _compared(trial, source, read)
    if results[key] == PADDED and _positions_depend_on_length(text_config(base)):
        return EQUAL_LENGTHS
    return results[key]


def strictest(kinds):
    """Return the one of several results of `batching_of` under which the fewest share a pass."""
    return max(kinds, key=(PADDED, EQUAL_LENGTHS, ALONE).index)


def _compared(trial, source, read):
    """Compare passes over several sequences with passes over each alone."""
    n_long, n_short = trial.lengths
    sequences = [trial.long, trial.second, trial.short]
    lengths = [n_long, n_long, n_short]
    alone = [
        # n is None for images, whose number of rows is not known before.
        read(source.inputs([sequence]), n and (1, n))[0]
        for sequence, n in zip(sequences, lengths, strict=True)
    ]
    # Sequences of all lengths in one batch, which pads the short one.
    together = read(source.inputs(sequences), n_long and (3, n_long))
    if all(_same(x[: len(rows)], rows) for x, rows in zip(together, alone, strict=True)):
        return PADDED
    # Two sequences of one length, without padding.
    together = read(source.inputs(sequences[:2]), n_long and (2, n_long))
    if all(_same(x, rows, _BEYOND_DOUBT) for x, rows in zip(together, alone[:2], strict=True)):
        return EQUAL_LENGTHS
    return ALONE


def _check_one_row(base, point, inputs):
    """Raise a ValueError if a token has several rows at a hook point, or that of another token.

    The pass runs to its end: a module may run once more behind all others.
    """
    n_runs, reads_other_ids = 0, False

    def count(_):
        nonlocal n_runs
        n_runs += 1

    def compare(module, args, kwargs):
        nonlocal reads_other_ids
        ids = kwargs.get("input_ids", args[0] if args else None)
        if isinstance(ids, torch.Tensor):
            reads_other_ids |= not torch.equal(ids.cpu(), inputs["input_ids"].cpu())

    with contextlib.ExitStack() as stack:
        stack.enter_context(own_pass(base))
        stack.enter_context(torch.no_grad())
        for module in _given_ids(base, point.path) if "input_ids" in inputs else ():
            handle = module.register_forward_pre_hook(compare, with_kwargs=True)
            stack.callback(handle.remove)
        stack.enter_context(visiting(base, [(point, count)]))
        try:
            base(**inputs, **without_cache(base))
        except Exception:
            # Behind the hook point a model may need more, as T5's decoder does; that is never run.
            if not n_runs:
                raise
    refuse_repeated(base, point, n_runs)
    if reads_other_ids:
        raise ValueError(
            f"The module {point.path!r} of {type(base).__name__} is in a decoder that reads other "
            f"tokens than those given, shifted by one: its rows would stand beside the wrong "
            f"tokens. Name a module of the encoder."
        )


def _given_ids(base, path):
    """Return the modules inside of `base` and around `path` that are given token ids."""
    names = path.split(".")
    around = [base.get_submodule(".".join(names[:n])) for n in range(1, len(names) + 1)]
    return [m for m in around if "input_ids" in inspect.signature(m.forward).parameters]


def check_attention(base):
    """Raise a ValueError if `base` chooses its attention by the lengths that it has read."""
    if getattr(base, "attention_type", None) == "block_sparse":
        raise ValueError(
            f"{type(base).__name__} attends block by block only in batches of long texts, and to "
            f"everything in all that come after a short one: the rows of a text would depend on "
            f"other texts. Load it with attention_type='original_full' and give the model itself."
        )


def _positions_depend_on_length(config):
    """Whether rotary frequencies are chosen by the longest sequence of a batch."""
    rope = getattr(config, "rope_parameters", None) or {}
    # Models with two kinds of attention have parameters for each.
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds)


def _same(rows, expected, n_times=1):
    """Whether rows differ from those expected by at most `n_times` the tolerance of rounding."""
    tolerance = n_times * _ROUNDING[expected.dtype.itemsize]
    rows, expected = rows.double().cpu(), expected.double().cpu()
    if not torch.equal(rows.isfinite(), expected.isfinite()):
        return False
    rows, expected = (x.nan_to_num(0, 0, 0) for x in (rows, expected))
    difference = torch.linalg.vector_norm(rows - expected, dim=-1)
    return bool((difference <= tolerance * torch.linalg.vector_norm(expected, dim=-1)).all())
