"""Local replacement model of a prompt: transcoders for MLPs, attention and norms as they were.

In a pass of the prompt the attention patterns and the denominators of the norms are written down.
With them as constants, and with what the MLPs add put in from outside, all tensors of the stream
are affine functions of the token embeddings and of what each MLP adds. So the effect of one on the
other is a number that gradients give exactly, and not an estimate.

The constants are caught where they are made, by a mode of torch that sees every call of a softmax,
an attention kernel or a norm in a pass. No module is changed, and there is no table of families.
"""

from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sksae._arrays import to_torch
from sksae.language_models.model import (
    HookPoint,
    Target,
    TorchDictionary,
    base_of,
    find_hook_point,
    own_pass,
    visiting,
    wide,
    without_cache,
)

_POSITIONS_AT_A_TIME = 64  # dense codes of as many positions exist at once
_CLOSE = 1e-3  # relative; of numbers that differ by rounding only


class FrozenPass(TorchFunctionMode):
    """Context of a pass of which attention patterns and denominators of norms are constants.

    Parameters
    ----------
    constants : list of Tensor, default=None
        Those of an earlier pass of one copy of the same prompt, in the order in which they came.
        None writes them down.
    """

    def __init__(self, constants=None):
        super().__init__()
        self.constants = [] if constants is None else constants
        self._left = None if constants is None else iter(constants)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        frozen = _FROZEN.get(func)
        if frozen is None:
            return func(*args, **(kwargs or {}))
        kwargs = dict(kwargs or {})
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        return frozen(self, func, *args, **kwargs)

    @torch.no_grad()
    def constant(self, make, n_rows):
        """Return what `make` returns, or what it returned in the earlier pass, for `n_rows`."""
        if self._left is None:
            value = make().detach()
            self.constants.append(value)
            return value
        value = next(self._left, None)
        if value is None:
            raise RuntimeError("A pass of the same prompt calls other functions than the first.")
        # Rows are copies of the prompt, or where a module has flattened them, its tokens.
        n_copies = n_rows // len(value)
        if len(value) == 1:
            return value.expand(n_copies, *value.shape[1:])
        return value.repeat(n_copies, *[1] * (value.ndim - 1))


def _all_of_it(frozen, func, x, *args, **kwargs):
    """The result of `func` as a constant."""
    return frozen.constant(lambda: func(x, *args, **kwargs), len(x)).contiguous()  # BLOOM views it


def _attention(
    frozen,
    func,
    query,
    key,
    value,
    attn_mask=None,
    dropout_p=0.0,
    is_causal=False,
    scale=None,
    enable_gqa=False,
):
    """`scaled_dot_product_attention` with a constant pattern, (n, n_heads, n_tokens, n_tokens)."""

    def pattern():
        # What attention makes of one-hot values are its weights.
        one_hot = torch.eye(key.shape[-2], dtype=value.dtype, device=value.device)
        one_hot = one_hot.expand(*key.shape[:-1], -1)
        options = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
        return func(query, key, one_hot, attn_mask=attn_mask, **options)

    weights = frozen.constant(pattern, len(query))
    if enable_gqa:
        value = value.repeat_interleave(weights.shape[-3] // value.shape[-3], -3)
    return weights @ value


def _layer_norm(frozen, _func, x, normalized_shape, weight=None, bias=None, eps=1e-5, *_):
    """`layer_norm` with a constant denominator."""
    dims = tuple(range(-len(normalized_shape), 0))
    centred = x.to(wide(x))
    centred = centred - centred.mean(dims, keepdim=True)
    return _scaled(frozen, centred, dims, eps, weight, bias).to(x.dtype)


def _rms_norm(frozen, _func, x, normalized_shape, weight=None, eps=None):
    """`rms_norm` with a constant denominator."""
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    dims = tuple(range(-len(normalized_shape), 0))
    return _scaled(frozen, x.to(wide(x)), dims, eps, weight, None).to(x.dtype)


def _scaled(frozen, x, dims, eps, weight, bias):
    factor = frozen.constant(lambda: (x.square().mean(dims, keepdim=True) + eps).rsqrt(), len(x))
    x = x * factor
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


_FROZEN = {
    functional.softmax: _all_of_it,
    torch.softmax: _all_of_it,
    torch.Tensor.softmax: _all_of_it,
    torch.rsqrt: _all_of_it,  # of the mean square, in norms written out
    torch.Tensor.rsqrt: _all_of_it,
    functional.scaled_dot_product_attention: _attention,
    functional.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
}


class ReplacedLayer(NamedTuple):
    """A layer whose MLP a transcoder stands for, and what that writes in the prompt.

    What the MLP adds to the stream is ``code * component`` of every entry, the error, the constant
    part, and what a skip connection makes of the rows that the transcoder reads. A transcoder
    across layers has a component for the MLP of its layer and one for each later one.
    """

    target: Target
    dictionary: TorchDictionary
    encoder: torch.Tensor  # (n_features, source_width)
    encoder_intercept: torch.Tensor  # (n_features,)
    skip: torch.Tensor | None  # (width, source_width)
    position: torch.Tensor  # (n,): of each entry, sorted
    feature: torch.Tensor  # (n,)
    code: torch.Tensor  # (n,)
    error: torch.Tensor  # (n_tokens, width)
    constant: torch.Tensor  # (n_tokens, width): the intercept; all, where MLPs are constants

    def written(self):
        """Return what each entry writes to its own layer and to later ones, (n, layers, width)."""
        rows = self.dictionary.components(self.error)[self.feature]
        return (self.code[:, None] * rows).unflatten(1, (-1, self.error.shape[1]))

    def rows_read(self):
        """Return the rows of the encoder of the entries, (n, source_width)."""
        return self.encoder[self.feature]

    def of_skip(self, source):
        """Return what the skip connection makes of rows, or 0."""
        return 0.0 if self.skip is None else source.to(self.skip.dtype) @ self.skip.T


def replaced_layer(target, sae, source, x, constant_positions, *, n_later):
    """Return the `ReplacedLayer` of one layer, as if nothing came from earlier ones.

    Parameters
    ----------
    target : Target
        The sites of the transcoder.
    sae : Transcoder
        The transcoder.
    source : Tensor of shape (n_tokens, source_width)
        The rows that it reads.
    x : Tensor of shape (n_tokens, width)
        What the MLP adds to the stream.
    constant_positions : Tensor of shape (n_tokens,), dtype=bool
        Where all of that is a constant.
    n_later : int
        Layers behind this one, to all of which the transcoder may write as well.
    """
    dictionary, width = TorchDictionary(sae), x.shape[-1]
    dictionary.check_width(source.shape[-1])
    is_across = len(dictionary.intercept(x)) == (1 + n_later) * width
    if not is_across:
        dictionary.check_target_width(width)
    encoder, encoder_intercept, skip = _maps(dictionary.sae, x)
    parts, error = [], torch.empty_like(x)
    for first in range(0, len(x), _POSITIONS_AT_A_TIME):
        block = slice(first, first + _POSITIONS_AT_A_TIME)
        codes = dictionary.encode(source[block])
        error[block] = x[block] - codes @ dictionary.components(x)[:, :width]
        codes[constant_positions[block]] = 0
        position, feature = codes.nonzero(as_tuple=True)
        parts.append((position + first, feature, codes[position, feature]))
    position, feature, code = (torch.cat(column) for column in zip(*parts, strict=True))
    linear = (source[position] * encoder[feature]).sum(-1) + encoder_intercept[feature]
    if len(code) and not (linear - code).abs().max() <= _CLOSE * code.abs().max():
        raise ValueError(
            f"Codes must be X @ encoder_coef_.T + encoder_intercept_ wherever they are not zero; "
            f"those of the {type(dictionary.sae).__name__} that reads {target.source} are not."
        )
    if is_across and n_later and skip is not None:
        raise ValueError(
            f"The {type(dictionary.sae).__name__} that reads {target.source} writes to several "
            f"layers and has a skip connection, which is not linear in what earlier MLPs add "
            f"alone: graphs are made of transcoders across layers without one."
        )
    constant = dictionary.intercept(x)[:width].expand_as(x)
    past = constant if skip is None else constant + source @ skip.T
    error = error - past
    at = constant_positions[:, None]
    constant = torch.where(at, x - (past - constant), constant)
    error = torch.where(at, torch.zeros_like(error), error)
    maps = encoder, encoder_intercept, skip
    return ReplacedLayer(target, dictionary, *maps, position, feature, code, error, constant)


def _maps(sae, x):
    """Return encoder, its intercept and the skip connection or None, as tensors next to `x`."""
    for name in ("encoder_coef_", "encoder_intercept_"):
        if not hasattr(sae, name):
            raise TypeError(f"{type(sae).__name__} has no {name}, as a Transcoder has.")
    names = ("encoder_coef_", "encoder_intercept_", "skip_coef_")
    arrays = (getattr(sae, name, None) for name in names)
    return [None if array is None else to_torch(array, x.device, x.dtype) for array in arrays]


def _add_earlier(layers, constant_positions):
    """Take what earlier layers write to a later one from its error, and put it into what it adds.

    Errors and constants are changed in place.
    """
    for i, layer in enumerate(layers):
        written, width = layer.written(), layer.error.shape[1]
        intercepts = layer.dictionary.intercept(layer.error).unflatten(0, (-1, width))
        for later, intercept, rows in zip(
            layers[i + 1 :], intercepts[1:], written[:, 1:].unbind(1), strict=False
        ):
            past = torch.where(constant_positions[:, None], 0.0, intercept)
            later.constant.add_(past)
            later.error.sub_(past).index_add_(0, layer.position, rows, alpha=-1)


class ReplacementModel:
    """The local replacement model of one prompt.

    Its inputs are the embeddings of the tokens and what each MLP adds to the stream past the skip
    connection, its outputs the rows that transcoders read and the stream behind the last block.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    targets : list of Target
        The sites of the transcoder of each layer, from the first layer to the last.
    saes : list of Transcoder
        The transcoders.
    inputs : dict of str to Tensor
        Keyword arguments of a pass of the prompt.
    constant_positions : Tensor of shape (n_tokens,), dtype=bool
        Where what MLPs add is a constant.

    Attributes
    ----------
    layers : list of ReplacedLayer
        The layers.
    embeddings : Tensor of shape (n_tokens, width)
        What the embedding module makes of the tokens.
    stream : Tensor of shape (n_tokens, width)
        Behind the last block.
    logits : Tensor of shape (n_vocabulary,)
        At the last position.

    Raises
    ------
    ValueError
        If with these constants the model is not affine, or a transcoder's codes are not.
    """

    def __init__(self, model, targets, saes, inputs, constant_positions):
        self._base, self._targets, self._inputs = base_of(model), targets, inputs
        self._embedding = HookPoint(_path_of(self._base, self._base.get_input_embeddings()))
        self._end = find_hook_point(model, -1, "resid_post")
        points = [self._embedding, self._end, *(t.source for t in targets)]
        points += [target.point for target in targets]
        captured = {}

        def keep(i, x):
            # What comes behind may change it in place.
            captured[i] = x.detach().clone()[0].to(wide(x))

        visits = [(point, lambda x, i=i: keep(i, x)) for i, point in enumerate(points)]
        frozen = FrozenPass()
        with own_pass(model), torch.no_grad(), visiting(self._base, visits), frozen:
            logits = model(**inputs, **without_cache(model)).logits[0, -1]
        self._constants = frozen.constants
        self._eps = torch.finfo(logits.dtype).eps
        self.logits = logits.to(wide(logits))
        self.embeddings, self.stream, *rows = (captured[i] for i in range(len(points)))
        rows = zip(targets, saes, rows[: len(saes)], rows[len(saes) :], strict=True)
        constant_positions, n_later = constant_positions.to(logits.device), len(saes)
        self.layers = [
            replaced_layer(*row, constant_positions, n_later=n_later - i - 1)
            for i, row in enumerate(rows)
        ]
        _add_earlier(self.layers, constant_positions)

    def inputs(self, share=1.0):
        """Return the inputs in the prompt, (n_tokens, width) each: embeddings, then the layers.

        `share` is the factor of all but the constant parts.
        """
        added = [layer.error * share + layer.constant for layer in self.layers]
        for i, layer in enumerate(self.layers):
            # Entries write to their own layer, and to later ones where there are components.
            for later, rows in zip(added[i:], layer.written().unbind(1), strict=False):
                later.index_add_(0, layer.position, rows * share)
        return [self.embeddings * share, *added]

    def outputs(self, inputs):
        """Return the outputs for some inputs.

        Parameters
        ----------
        inputs : list of Tensor of shape (n, n_tokens, width)
            As from `inputs`, for n copies of the prompt.

        Returns
        -------
        outputs : list of Tensor of shape (n, n_tokens, width)
            The rows that the transcoder of each layer reads, then the stream behind the last block.
        """
        read, sources = {}, {}
        visits = [(self._embedding, lambda x: inputs[0].to(x.device, x.dtype, copy=True))]

        def remember(i, source):
            read[i] = sources[i] = source

        def put(i, x):
            new = inputs[i + 1] + self.layers[i].of_skip(sources.pop(i))
            return new.to(x.device, x.dtype).reshape(x.shape)

        for i, target in enumerate(self._targets):
            visits.append((target.source, lambda x, i=i: remember(i, x)))
            visits.append((target.point, lambda x, i=i: put(i, x)))
        n_layers = len(self._targets)
        visits.append((self._end, lambda x: read.update({n_layers: x})))
        passed = {name: x.expand(len(inputs[0]), -1) for name, x in self._inputs.items()}
        with ExitStack() as stack:
            stack.enter_context(own_pass(self._base))
            stack.enter_context(visiting(self._base, visits))
            stack.enter_context(FrozenPass(self._constants))
            self._base(**passed, **without_cache(self._base))
        return [read[i].reshape(*inputs[0].shape[:2], -1) for i in range(n_layers + 1)]

    @torch.no_grad()
    def constant_outputs(self):
        """Return the outputs that the constant parts alone make, (n_tokens, width) each.

        Raises
        ------
        ValueError
            If the outputs are no affine function of the inputs.
        """
        inputs = [torch.stack(x) for x in zip(*map(self.inputs, (0.0, 1.0, 2.0)), strict=True)]
        outputs = [x.to(wide(x)) for x in self.outputs(inputs)]
        for none, once, twice in outputs:
            bend, size = (twice - 2 * once + none).abs().max(), twice.abs().max()
            if not bend <= max(_CLOSE, 16 * self._eps) * size:
                raise ValueError(
                    f"With attention patterns and norms as constants, {type(self._base).__name__} "
                    f"is not linear between its MLPs. Load it with attn_implementation='eager' or "
                    f"'sdpa'; if that is what it has, its attention has other nonlinear parts, or "
                    f"it is being steered by more than constants."
                )
        return [x[0] for x in outputs]


def _path_of(base, module):
    """Return the path of a module of `base`."""
    return next(path for path, inner in base.named_modules() if inner is module)
