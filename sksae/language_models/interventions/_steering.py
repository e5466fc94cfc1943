"""Interventions: passes of a model in which rows of a site are steered or patched."""

import contextlib

import torch

from sksae._modes import own_modes
from sksae._params import Bool, Option, check_option
from sksae._threads import threads_of_process
from sksae.language_models.interventions._feature_edits import read_edit
from sksae.language_models.interventions._token_positions import Positions, read_where
from sksae.language_models.model import (
    SITES,
    TorchDictionary,
    base_of,
    capture,
    check_fitted_on,
    find_target,
    fitted_estimator,
    inherited_by_threads,
    interventions_ignored,
    reconstruct,
    scope,
    short_inputs,
    split_site,
    text_config,
    visiting,
    wide,
    without_interventions,
)

_RULES = {
    "how": Option("add", "clamp", "scale", "ablate", "project_out"),
    "unit": Option("absolute", "norm", "max"),
    "only_active": Bool(),
    "preserve_norm": Bool(),
}


def steer(
    model,
    site,
    sae,
    features,
    how="add",
    *,
    target_site=None,
    unit="absolute",
    maxima=None,
    where="all",
    only_active=False,
    preserve_norm=False,
):
    r"""Turn features up, down or off in every pass of a model within a ``with`` block.

    The activation ``x`` of a token becomes ``x + d``, where ``d`` lies in the span of the features'
    directions, rows ``d_j`` of ``components_``. What the autoencoder does not reconstruct stays as
    it is, and so do the other features: clamping a feature to the value it has changes nothing, to
    the last bit. Blocks can be nested, at one site or at several; at one site the outer one acts
    first.

    Parameters
    ----------
    model : PreTrainedModel
        The model whose passes are changed, whether they are run by `generate`, by a call, or by
        something else that uses the model.
    site : str or (int, str)
        Where in the model: ``"3.resid_post"`` or ``(3, "resid_post")``, ``"embeddings"``, or the
        path of a module, or the name of a hook of TransformerLens; see `ActivationExtractor`.
    sae : estimator
        A sparse autoencoder fitted on activations of that site, or a `Transcoder` that reads it.
    features : mapping of int to float
        The features, columns of the codes, and a value ``v`` for each. For ``how="ablate"`` and
        ``how="project_out"``, which use no values, a list of features or a single one as well.
    how : {"add", "clamp", "scale", "ablate", "project_out"}, default="add"
        The kind of change, with ``f_j`` the code of the token:

        - ``"add"``: ``d = v u_j``, a step along the unit vector ``u_j = d_j / |d_j|``, of a length
          in units of `unit`;
        - ``"clamp"``: ``d = (v - f_j) d_j``, so that the feature has the value ``v`` everywhere;
        - ``"scale"``: ``d = (v f_j - f_j) d_j``;
        - ``"ablate"``: ``d = -f_j d_j``, so that the feature does not fire;
        - ``"project_out"``: ``d = -(x . u_j) u_j``, so that nothing of `x` points along the
          feature, whether or not it fires. Of several features it is the projection on the span of
          their directions.

        The steps of several features are added up. With a transcoder `x` is the activation of
        `target_site`, and only the codes ``f_j`` are those of `site`.
    target_site : str or (int, str), default=None
        Where a transcoder writes. None is the ``mlp_out`` of the block that `site` is in; an
        autoencoder writes where it reads.
    unit : {"absolute", "norm", "max"}, default="absolute"
        What a value of ``how="add"`` is measured in: the units of `x`; the norm of `x`, token by
        token, which makes layers comparable; or the feature's largest code, ``v maxima[j] d_j``.
    maxima : array-like of shape (n_components,) or mapping of int to float, default=None
        The largest code of each feature, such as ``sae.transform(rows).max(axis=0)``. Needed with
        ``unit="max"``.
    where : {"all", "last", "generated"}, array-like of int or of bool, default="all"
        Which tokens:

        - ``"all"``: those of the prompt and those that are generated;
        - ``"last"``: the last token of the prompt, and those that are generated;
        - ``"generated"``: those that come after the prompt, that is, after the first pass of
          `generate`. The first new token is predicted before any of them is there;
        - int: positions in the prompt, columns of ``input_ids``; negative ones count from its end;
        - bool, of shape (n_sequences, n_tokens): a mask over the prompts.

        Padding, where ``attention_mask`` is 0, is never changed.
    only_active : bool, default=False
        Whether a feature is changed only where it fires, ``f_j > 0``. For ``how="project_out"``:
        where at least one of the features does.
    preserve_norm : bool, default=False
        Whether tokens that were changed get the norm back that they had.

    Returns
    -------
    context : context manager
        Steers from its ``with`` to the end of the block. Then the hooks are gone, also after an
        error.

    Raises
    ------
    TypeError
        If `model` is not a model object or is a wrapper around one, `sae` has no directions, or a
        value is not a number.
    ValueError
        If the model has no such site, the autoencoder was fitted on rows of another width, there
        is no such feature, or an option is not one of those above. In a pass: if a position or
        the mask lies outside of the prompt.
    RuntimeError
        If `site` is a module that never runs. In a pass: if gradient checkpointing will repeat it,
        or a part of the model is called instead of the model. At the end of the block: if the
        model ran and nothing could be changed.

    See Also
    --------
    patch : Run the model with the reconstruction instead.
    attribute : Which features a prediction rests on.

    Notes
    -----
    Only tokens that are steered are encoded, and for ``how="add"`` without `only_active` and for
    ``how="project_out"`` none is. The arithmetic is at least float32; the result has the dtype and
    device of `x`. With TopK autoencoders more than `k` features may be on afterwards: the codes are
    not chosen anew. Codes are rounded in another way in another batch: a value that was read from
    one may lie a last digit beside the code that it is compared with here.

    A transcoder sees what outer blocks, but not what inner ones, make of the site that it reads.

    Results are the same with and without a cache and with beams. In a left-padded batch a position
    is a column, padding included: count from the end, or give a mask. Not supported are assisted
    decoding, which generates several tokens in one pass, and prompts that are read in chunks.

    A block holds for the passes of the thread or asyncio task that entered it, and of threads and
    tasks that are started inside of it, such as one that runs `generate` for a streamer; extractors
    and other readers refuse to work in such a thread. Others, on the same model at the same time,
    are left alone, or have blocks of their own: a thread that was there before, as those of a pool
    are, belongs to the block by ``contextvars.copy_context().run`` only. A context can be entered
    again, also inside of itself: then it acts twice. While a block is open, all that
    `torch.compile` has made in this process runs uncompiled.

    References
    ----------
    A. M. Turner et al.: Steering Language Models With Activation Engineering, 2023.
    https://arxiv.org/abs/2308.10248 (adding)

    A. Templeton et al.: Scaling Monosemanticity, Transformer Circuits Thread, 2024. (clamping, with
    the error of the autoencoder kept)

    A. Arditi et al.: Refusal in Language Models Is Mediated by a Single Direction, 2024.
    https://arxiv.org/abs/2406.11717 (projecting out)

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import load_corpus, load_tiny_lm
    >>> from sksae.language_models import ActivationExtractor, steer
    >>> model, tokenizer = load_tiny_lm()
    >>> extractor = ActivationExtractor(model, layer=2, tokenizer=tokenizer)
    >>> rows = extractor.transform(load_corpus().data[:4])
    >>> sae = TopKSAE(256, k=8, max_iter=3, random_state=0).fit(rows)
    >>> codes = sae.transform(rows)
    >>> feature = codes.sum(axis=0).argmax()
    >>> inputs = tokenizer("Return the mean", return_tensors="pt")
    >>> options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    >>> plain = model.generate(**inputs, **options)
    >>> tokenizer.decode(plain[0], skip_special_tokens=True)
    'Return the mean of the matrix.\n\nParameters\n'
    >>> maxima = codes.max(axis=0)
    >>> with steer(model, "2.resid_post", sae, {feature: 2.5}, unit="max", maxima=maxima):
    ...     steered = model.generate(**inputs, **options)
    >>> tokenizer.decode(steered[0]) == tokenizer.decode(plain[0])
    False
    """
    _check(how=how, unit=unit, only_active=only_active, preserve_norm=preserve_norm)
    if unit != "absolute" and how != "add":
        raise ValueError(f"unit={unit!r} is for how='add'; how={how!r} has units of its own.")
    where = read_where(where)
    target, width, target_width = editable(model, site, sae, target_site)
    dictionary = TorchDictionary(sae, width)
    if target_width is not None:
        dictionary.check_target_width(target_width)
    with threads_of_process(), own_modes():
        edit = read_edit(dictionary, features, how, unit, maxima)
    edit = edit._replace(only_active=bool(only_active), preserve_norm=bool(preserve_norm))
    return Editing(model, target, where, edit)


def _check(**options):
    for name, value in options.items():
        check_option(name, value, _RULES[name])


def patch(model, site, sae, *, target_site=None, where="all", with_error=False):
    """Let a model run on the reconstruction of a site in every pass within a ``with`` block.

    The activation ``x`` of a token becomes what the autoencoder makes of it,
    ``inverse_transform(transform(x))``. How much worse the model predicts then is what the
    reconstruction lacks, measured in the model's own terms. A transcoder reads `site`, and what it
    predicts from it replaces the activations of `target_site`.

    Parameters
    ----------
    model : PreTrainedModel
        The model whose passes are changed.
    site : str or (int, str)
        Where in the model: ``"3.resid_post"`` or ``(3, "resid_post")``, ``"embeddings"``, or the
        path of a module, or the name of a hook of TransformerLens; see `ActivationExtractor`.
    sae : estimator
        A fitted autoencoder, or anything with `transform` and `inverse_transform`: a pipeline, a
        PCA. Or a `Transcoder`, or another regressor with `transform`.
    target_site : str or (int, str), default=None
        Where a transcoder writes. None is the ``mlp_out`` of the block that `site` is in; an
        autoencoder writes where it reads.
    where : {"all", "last", "generated"}, array-like of int or of bool, default="all"
        Which tokens, as for `steer`.
    with_error : bool, default=False
        Whether the error, what was there minus what is put there, is added again. The model then
        predicts what it always does, up to rounding: a test that everything is in its place.

    Returns
    -------
    context : context manager
        Patches from its ``with`` to the end of the block. Then the hooks are gone, also after an
        error.

    Raises
    ------
    TypeError
        If `model` is not a model object, or `sae` cannot reconstruct.
    ValueError
        If the model has no such site, `sae` was fitted on rows of another width or not at all, or
        an option is not one of those above. In a pass: if a position or the mask lies outside of
        the prompt.
    RuntimeError
        If `site` is a module that never runs, and as for `steer`.

    See Also
    --------
    steer : Change some features only.
    sksae.metrics.explained_variance : How much is reconstructed, without the model.

    Notes
    -----
    Only tokens that are patched are encoded. Special tokens, and the first position where a model
    has outliers there, are often not among the rows an autoencoder was fitted on; `where` can leave
    them out. Gradients do not pass the reconstruction. Threads, contexts that are entered again and
    compiled models are as for `steer`.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import load_corpus, load_tiny_lm
    >>> from sksae.language_models import ActivationExtractor, patch
    >>> model, tokenizer = load_tiny_lm()
    >>> texts = load_corpus().data[:4]
    >>> rows = ActivationExtractor(model, layer=2, tokenizer=tokenizer).transform(texts)
    >>> sae = TopKSAE(256, k=8, max_iter=3, random_state=0).fit(rows)
    >>> inputs = tokenizer("Return the mean of the array elements.", return_tensors="pt")
    >>> inputs["labels"] = inputs["input_ids"]
    >>> loss = model(**inputs).loss.item()
    >>> with patch(model, "2.resid_post", sae, where=range(1, inputs["input_ids"].shape[1])):
    ...     patched = model(**inputs).loss.item()
    >>> patched > loss
    True
    >>> with patch(model, "2.resid_post", sae, with_error=True):
    ...     exact = model(**inputs).loss.item()
    >>> abs(exact - loss) < 1e-4
    True
    """
    if not Bool().accepts(with_error):
        raise ValueError(f"with_error must be {Bool()}. Got {with_error!r} instead.")
    where = read_where(where)
    sae = fitted_estimator(sae)
    target, width, target_width = editable(model, site, sae, target_site)
    if width is not None:
        check_fitted_on(sae, width, target_width)

    def edit(rows, source):
        reconstruction = reconstruct(sae, source, rows.shape[-1])
        return reconstruction + (rows - reconstruction) if with_error else reconstruction

    return Editing(model, target, where, edit)


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
        """Record that a tensor passes the hook point.

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
    rows = x[mask].to(wide(x))  # (n, width), at least float32
    if not len(rows):
        return None
    new = edit(rows, rows if source is x else source[mask].to(wide(source)))
    changed = (new != rows).any(-1)  # (n,)
    if not changed.any():
        return None
    where = mask.clone()  # (batch, n_tokens), where a row changed
    where[mask] = changed
    edited = x.clone()
    edited[where] = new[changed].to(x.dtype)  # rows that stay equal keep their bits
    return edited
