"""Contexts in which rows of a site are changed, for `steer` and `patch`."""

import contextlib

import torch

from sksae._modes import own_modes
from sksae._threads import threads_of_process
from sksae.language_models.interventions._token_positions import Positions
from sksae.language_models.model import (
    SITES,
    base_of,
    capture,
    find_target,
    inherited_by_threads,
    interventions_ignored,
    scope,
    short_inputs,
    split_site,
    text_config,
    visiting,
    wide,
    without_interventions,
)


def editable(model, site, sae, target_site):
    """Return the `Target` of an estimator, and the widths that it reads and writes.

    A width is None where only a pass would tell.

    Raises
    ------
    TypeError
        If `model` is the name of a model.
    ValueError
        If there is no such site, or it runs several times in a pass.
    RuntimeError
        If the site is a module that never runs.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"The model itself is needed, a PreTrainedModel, not {type(model).__name__}: what is "
            f"done to it holds for the passes of this object."
        )
    target, base = find_target(model, site, sae, target_site), base_of(model)
    write_width = _width(base, target.site, target.point)
    if target.source == target.point:
        return target, write_width, write_width
    return target, _width(base, split_site(site)[1], target.source), write_width


def _width(base, site, point):
    """Return the columns of a site, None where only a pass would tell."""
    if site in SITES:
        return getattr(text_config(base), "hidden_size", None)
    if getattr(base.config, "is_encoder_decoder", False):
        return None
    with without_interventions():
        return capture(base, {"x": point}, short_inputs(base))["x"].shape[-1]


class Editing(contextlib.ContextDecorator):
    """A context in which a function changes rows of a site.

    It can be entered as often as wanted, also while it is open: then the rows are changed twice, as
    by two contexts, one inside of the other.

    Parameters
    ----------
    model : torch.nn.Module
        The model, with or without a head.
    target : Target
        Where.
    where : str or Tensor
        Which rows, as from `read_where`.
    edit : callable
        ``edit(rows, source)`` gets those rows, (n, width), at least float32, and the rows of the
        same tokens that codes are made of, and returns rows like the first. Where they are equal,
        the model's own stay as they are, bit for bit.
    """

    def __init__(self, model, target, where, edit):
        self._model = model
        self._base = base_of(model)
        self._target = target
        self._where = where
        self._edit = edit
        self._entries = []  # (Scope, ExitStack) of each time that it is open

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(threads_of_process())
            stack.enter_context(inherited_by_threads())
            passes = stack.enter_context(scope())
            positions = Positions(self._where)
            watch = _Watch(self._base, self._target.point)

            def visit(x, source):
                if interventions_ignored():
                    return None
                watch.visited()
                with own_modes():
                    return _edited(x, source, positions.mask(x), self._edit)

            stack.push(watch.check)
            stack.enter_context(positions.following(self._base, self._target.point.path, passes))
            stack.enter_context(watch.counting(passes))
            stack.enter_context(visiting(self._base, self._target.visits(visit)))
            self._entries.append((passes, stack.pop_all()))

    def __exit__(self, *error):
        entries = self._entries
        # Threads and tasks may have entered in between: the last one of this context.
        last = next((i for i in range(len(entries))[::-1] if entries[i][0].is_here()), -1)
        return entries.pop(last)[1].__exit__(*error)


class _Watch:
    """Counts of passes and of changes, to notice a block that changes nothing.

    Parameters
    ----------
    base : torch.nn.Module
        The model without its head.
    point : HookPoint
        Where it is to be changed.
    """

    def __init__(self, base, point):
        self._base = base
        self._point = point
        self._n_passes = 0  # that came to their end
        self._n_visits = 0

    @contextlib.contextmanager
    def counting(self, here):
        """Count the passes in the scope `here` while the context is open."""

        def count(*_):
            if here.is_here() and not interventions_ignored():
                self._n_passes += 1

        handle = self._base.register_forward_hook(count)
        try:
            yield
        finally:
            handle.remove()

    def visited(self):
        """Take note that a tensor passes the hook point.

        Raises
        ------
        RuntimeError
            If it will pass again in a backward pass, which may come after the block.
        """
        self._n_visits += 1
        base = self._base
        if not (base.training and torch.is_grad_enabled()):
            return
        if any(getattr(module, "gradient_checkpointing", False) for module in base.modules()):
            raise RuntimeError(
                f"{type(base).__name__} has gradient checkpointing on, which runs blocks once "
                f"more in the backward pass, where nothing would be changed: switch "
                f"it off before."
            )

    def check(self, error, *_):
        """Raise a RuntimeError at the end of a block in which nothing passed the hook point."""
        if error is None and self._n_passes and not self._n_visits:
            raise RuntimeError(
                f"Nothing was changed: {type(self._base).__name__} ran {self._n_passes} times in "
                f"the block, and never {self._point}."
            )


def _edited(x, source, mask, edit):
    """Return `x` with the rows of `mask` edited, or None if that changes nothing."""
    rows = x[mask].to(wide(x))
    if not len(rows):
        return None
    new = edit(rows, rows if source is x else source[mask].to(wide(source)))
    changed = (new != rows).any(-1)
    if not changed.any():
        return None
    where = mask.clone()
    where[mask] = changed
    edited = x.clone()
    edited[where] = new[changed].to(x.dtype)
    return edited
