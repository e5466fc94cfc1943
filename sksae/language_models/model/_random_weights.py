"""A language model whose weights are drawn at random, as a baseline."""

from copy import deepcopy

import torch
from sklearn.utils import check_random_state

from sksae._params import Bool, Seed, check_option
from sksae.language_models.model._model_loading import Loadable, is_name, load_causal
from sksae.language_models.model._sites import plain


def randomized_model(model, tokenizer=None, *, keep_embeddings=False, random_state=None):
    """Return a language model with weights that are drawn at random, in place of what it learnt.

    Every weight is drawn from the normal distribution with the mean and the standard deviation of
    its trained entries: the size of activations stays about the same, and all that was learnt is
    gone. What autoencoders, explanations and probes find in such a model comes from the tokens and
    the architecture alone [1]_.

    Parameters
    ----------
    model : str, Path or :class:`~transformers.PreTrainedModel`
        A causal language model by name or path, or any model. It is copied, never changed.
    tokenizer : str, Path or tokenizer, default=None
        Its tokenizer. None takes that of a model given by name or path.
    keep_embeddings : bool, default=False
        Whether the embeddings of tokens keep their trained values, and with them the matrix of the
        logits where the model shares it.
    random_state : int, RandomState instance or None, default=None
        Draws the weights. No global random state is used.

    Returns
    -------
    model : :class:`~transformers.PreTrainedModel`
        A new model of the same class and configuration, in evaluation mode.
    tokenizer : tokenizer or None
        The tokenizer, as loaded or as given.

    Raises
    ------
    TypeError
        If `model` is neither a name nor a model.
    ValueError
        If weights are not floating-point numbers, as those of a quantised model.

    See Also
    --------
    sksae.DummySAE : The baseline of an autoencoder.

    Notes
    -----
    The entries of a weight that are all equal, as in the norms of a model without training, stay
    equal. Weights that two modules share are drawn once. Buffers stay as they are. The draw depends
    on the shapes of the weights and their order alone, and is the same on every device.

    References
    ----------
    .. [1] Heap, T., Lawson, T., Farnik, L. and Aitchison, L. (2025). Sparse autoencoders can
       interpret randomly initialized transformers. arXiv:2501.17727. There embeddings are drawn
       again, or kept, as here.

    Examples
    --------
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> from sksae.language_models import ActivationExtractor, randomized_model
    >>> model, tokenizer = randomized_model(TINY_LM_PATH, random_state=0)
    >>> extractor = ActivationExtractor(model, layer=2, tokenizer=tokenizer)
    >>> extractor.transform(load_corpus().data[:2]).shape[1]
    192
    """
    check_option("model", model, Loadable("named_parameters", "language model"))
    check_option("keep_embeddings", keep_embeddings, Bool())
    check_option("random_state", random_state, Seed())
    if is_name(model):
        model, tokenizer = load_causal(model, tokenizer)
    model = deepcopy(plain(model)).eval()
    kept = model.get_input_embeddings().weight if keep_embeddings else None
    seed = check_random_state(random_state).randint(2**31 - 1)
    generator = torch.Generator().manual_seed(int(seed))
    with torch.no_grad():
        for name, weight in model.named_parameters():  # each once, though it may be shared
            if not weight.is_floating_point():
                raise ValueError(
                    f"The weight {name!r} has dtype {weight.dtype}: only floating-point numbers "
                    f"can be drawn. Load the model without quantisation."
                )
            if weight is not kept:
                std, mean = torch.std_mean(weight.double().cpu(), correction=0)
                drawn = torch.randn(weight.shape, generator=generator)
                weight.copy_(mean + std * drawn)
    return model, tokenizer
