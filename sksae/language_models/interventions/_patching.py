"""Patching: the passes of a model with reconstructed activations."""

from sksae._params import Bool
from sksae.language_models.interventions._row_edits import Editing, editable
from sksae.language_models.interventions._token_positions import read_where
from sksae.language_models.model import check_fitted_on, fitted_estimator, reconstruct


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
    >>> texts = load_corpus().data[:8]
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
