"""Passes in which given tensors go on from some places, and the gradients with respect to them.

The tensor ``x`` of a site is ``f @ W + b + e``: codes ``f``, a dictionary ``W`` with intercept
``b``, and what the dictionary leaves out, ``e``. What goes on is ``v + (x - x.detach())``, where
``v`` holds the same number for ``f`` and ``e`` as leaves (Marks et al. 2024, in plain torch): the
pass is exact, modules before the site get the gradient of the untouched model, and none of it
runs through the encoder. The derivative with respect to ``v`` is the one with respect to ``e``, and
its product with ``W`` the one with respect to ``f``; so ``v`` is the only leaf that is needed, and
no matrix of all positions and all features.
"""

import inspect
from contextlib import suppress
from typing import NamedTuple

import torch

from sksae.language_models._dictionary import wide
from sksae.language_models._hooks import capture, own_pass, visiting, without_cache
from sksae.language_models._sites import base_of


class _Reached(Exception):  # noqa: N818 - it is not an error
    """The pass got to the place that was to be read."""


class Splicer(NamedTuple):
    """A model that predicts tokens, a prompt, and places in the order in which they are passed.

    Where `values` are asked for, they are a dict from the number of a place to what goes on from
    there, (n, n_tokens, width): n copies of the prompt run at once.
    """

    model: torch.nn.Module
    places: list
    inputs: dict  # keyword arguments of a forward pass, one row each

    def read(self, inputs=None):
        """Return what passes each place, (n_tokens, width), in the arithmetic next to it."""
        inputs = self.inputs if inputs is None else inputs
        found = capture(base_of(self.model), dict(enumerate(self.places)), inputs)
        tensors = []
        for i, place in enumerate(self.places):
            x = found[i]
            if x.ndim != 3 or x.shape[:2] != inputs["input_ids"].shape:
                raise ValueError(
                    f"A site has one row a token; {tuple(x.shape)} passes {place} for "
                    f"{tuple(inputs['input_ids'].shape)} tokens."
                )
            tensors.append(x[0].to(wide(x)))
        return tensors

    def logits(self, visits=(), n=1, *, last=False):
        """Return the logits of `n` copies of the prompt; `last` may leave out all but the last."""
        inputs = {name: x.expand(n, -1).contiguous() for name, x in self.inputs.items()}
        if last and "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            inputs["logits_to_keep"] = 1
        with own_pass(self.model), visiting(base_of(self.model), list(visits)):
            return self.model(**inputs, **without_cache(self.model)).logits

    @torch.no_grad()
    def metric(self, metric, values):
        """Return the metric, (n,), with `values` in their places."""
        visits = [(self.places[i], spliced(v)) for i, v in sorted(values.items())]
        return metric(self.logits(visits, _n_rows(values), last=metric.last))

    @torch.no_grad()
    def metric_of_visits(self, metric, visits):
        """Return the metric of one copy, a float, where each place has a visit of its own."""
        pairs = list(zip(self.places, visits, strict=True))
        return float(metric(self.logits(pairs, last=metric.last)))

    def gradients(self, metric, values, *, hold=False):
        """Return the gradients of the metric with respect to `values`.

        With `hold` nothing flows past a value: the gradients are those of the direct paths, on
        which no other of the places lies.
        """
        leaves = _leaves(values)
        visit = held if hold else spliced
        visits = [(self.places[i], visit(leaf)) for i, leaf in leaves.items()]
        value = metric(self.logits(visits, _n_rows(values), last=metric.last))
        if not value.requires_grad:
            raise ValueError(f"The metric has no gradient: {metric.name} must be differentiable.")
        return _gradients(value.sum(), leaves)

    def gradients_at(self, place, weights, values):
        """Return the gradients of ``(weights * x).sum()`` with respect to held `values`.

        ``x`` is what passes the place with that number, (n, n_tokens, width) as the weights; the
        rest of the model does not run.
        """
        leaves, total = _leaves(values), []

        def reach(x):
            total.append((x.to(weights.device, weights.dtype) * weights).sum())
            raise _Reached

        visits = [(self.places[i], held(leaf)) for i, leaf in leaves.items()]
        with suppress(_Reached):
            self.logits([*visits, (self.places[place], reach)], len(weights))
        return _gradients(total[0], leaves)


def spliced(value):
    """Return a visit that puts `value` in and lets the gradient of the untouched model through."""

    def visit(x):
        new = _like(value, x)
        return new + (x - x.detach()) if x.requires_grad else new

    return visit


def held(value):
    """Return a visit that puts `value` in and lets no gradient through."""
    return lambda x: _like(value, x)


def in_order(model, places, inputs):
    """Return the numbers of `places` in the order in which a pass gets to them."""
    # Of two at one module, the sum with the stream is made of the other.
    numbers = sorted(range(len(places)), key=lambda i: places[i].sign)
    return list(capture(base_of(model), {i: places[i] for i in numbers}, inputs))


def _like(value, x):
    """A copy of `value` in the place of `x`: some models change what they get."""
    if value.shape != x.shape:
        raise ValueError(f"{tuple(x.shape)} passes a site that gets {tuple(value.shape)}.")
    return value.to(x.device, x.dtype, copy=True)


def _n_rows(values):
    return len(next(iter(values.values())))


def _leaves(values):
    return {i: v.detach().requires_grad_() for i, v in sorted(values.items())}


def _gradients(total, leaves):
    """Return the gradient of `total` with respect to each leaf, zero where no path leads to it."""
    found = [None] * len(leaves)
    if total.requires_grad:
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        i: torch.zeros_like(leaf) if gradient is None else gradient
        for (i, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
