"""From final hidden states to logits, through the model's own head, whatever is in it.

Softcaps, scales and biases are in the code of a model, not in its modules. So its own forward pass
is called, and for that moment its base hands over the hidden states that are given.
"""

import contextlib
import weakref

import torch

from sksae._modes import own_modes
from sksae.language_models._dictionary import wide
from sksae.language_models._hooks import own_pass, untouched, visiting, without_cache
from sksae.language_models._identities import short_inputs
from sksae.language_models._loading import check_causal
from sksae.language_models._scopes import scope
from sksae.language_models._sites import base_of, find_blocks, input_device

_passed = weakref.WeakSet()
_around = weakref.WeakKeyDictionary()
_ROUNDINGS = 64  # that the two ways to the same logits may differ by; they do the same sums


class _Output:
    """What any head can take for the output of its base: hidden states, all else is None."""

    def __init__(self, hidden):
        self.last_hidden_state = hidden

    def __getitem__(self, i):
        return (self.last_hidden_state,)[i]

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)


def final_hidden(model, inputs, visits=()):
    """Return what the base of `model` hands to its head, (n_sequences, n_positions, width).

    Parameters
    ----------
    model : torch.nn.Module
        A model that predicts tokens.
    inputs : dict of str to Tensor
        Keyword arguments of its forward pass.
    visits : list of (Place, callable), default=()
        As for `visiting`.
    """
    base = base_of(model)
    with own_pass(base), visiting(base, visits):
        return base(**inputs, **without_cache(base))[0]


def logits_of(model, hidden):
    """Return the logits that `model` makes of final hidden states, (..., width): (..., n_tokens).

    `check_head` says whether they are those of a plain pass.
    """
    rows = hidden.reshape(1, -1, hidden.shape[-1])
    base = base_of(model)
    # Nobody reads these ids; they are as many as there are rows.
    ids = torch.zeros(rows.shape[:2], dtype=torch.long, device=input_device(base))
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_pass(model))
        stack.enter_context(untouched())
        here = stack.enter_context(scope())
        for path in _trunks(model):
            stack.enter_context(_handing_over(base.get_submodule(path), _Output(rows), here))
        logits = model(input_ids=ids, **without_cache(model))[0]
    return logits.reshape(*hidden.shape[:-1], logits.shape[-1])


def _trunks(model):
    """Return the paths in the base of what may hand over the hidden states: all around the blocks.

    A head may call what is inside of the base, as OPT's calls the decoder.
    """
    if model not in _around:
        base = base_of(model)
        try:
            names = find_blocks(base).split(".")
        except ValueError:  # several stacks: then the base itself hands over
            names = [""]
        _around[model] = [".".join(names[:n]) for n in range(len(names))]
    return _around[model]


@contextlib.contextmanager
def _handing_over(module, output, here):
    """Let `module` return `output` in the scope `here`, whatever it is called with."""
    # accelerate has put a forward of its own on the object; it goes back.
    earlier, plain = vars(module).get("forward"), module.forward

    def forward(*args, **kwargs):
        return output if here.is_here() else plain(*args, **kwargs)

    module.forward = forward
    try:
        yield
    finally:
        if earlier is None:
            del module.forward
        else:
            module.forward = earlier


def check_head(model):
    """Raise a ValueError unless `logits_of` is right for `model`: tried once, on a few tokens."""
    check_causal(model)
    if model in _passed:
        return
    inputs = short_inputs(base_of(model))
    with own_modes(), torch.no_grad(), untouched(), own_pass(model):
        expected = model(**inputs, **without_cache(model))[0]
        try:
            logits = logits_of(model, final_hidden(model, inputs))
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise ValueError(_cannot(model, why)) from error
    if logits.shape != expected.shape:
        shapes = f"of shape {tuple(logits.shape)} instead of {tuple(expected.shape)}"
        raise ValueError(_cannot(model, f"they are {shapes}"))
    eps = torch.finfo(expected.dtype).eps
    logits, expected = logits.to(wide(expected)), expected.to(wide(expected))
    difference, size = float((logits - expected).abs().max()), float(expected.abs().max())
    if not difference <= _ROUNDINGS * eps * size:
        raise ValueError(_cannot(model, f"they differ by {difference:.3g} from those of a pass"))
    _passed.add(model)


def _cannot(model, why):
    return (
        f"{type(model).__name__} makes something else of the output of its base than logits, "
        f"alone and from the last hidden states only: {why}."
    )
