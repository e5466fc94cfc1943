"""Steering: features of a sparse autoencoder turned up, down or off in the passes of a model."""

from sksae._modes import own_modes
from sksae._params import Bool, Option, check_option
from sksae._threads import threads_of_process
from sksae.language_models.interventions._feature_edits import read_edit
from sksae.language_models.interventions._row_edits import Editing, editable
from sksae.language_models.interventions._token_positions import read_where
from sksae.language_models.model import TorchDictionary

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
    >>> rows = extractor.transform(load_corpus().data[:8])
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
