"""Models and tokenizers by name or path, loaded once and shared, or with random weights."""

import os
import weakref
from copy import deepcopy
from pathlib import Path

import torch
from sklearn.utils import check_random_state

from sksae._arrays import choose_device
from sksae._params import Bool, Seed, check_option
from sksae.language_models.model._sites import plain, reads_images

_models = weakref.WeakValueDictionary()
_boxes = weakref.WeakKeyDictionary()


class _Box:
    """The last result of each loader, shared by an extractor and its clones."""

    def __init__(self):
        self._held = {}

    def get(self, load, *key):
        if self._held.get(load, (None,))[0] != key:
            self._held[load] = (key, load(*key))
        return self._held[load][1]

    def holds(self, load, *key):
        return self._held.get(load, (None,))[0] == key

    def drop(self, load):
        self._held.pop(load, None)


def _box(extractor):
    return _boxes.setdefault(extractor, _Box())


def share_loaded(extractor, twin):
    """Let `twin` use what `extractor` loads, and the other way round."""
    _boxes[twin] = _box(extractor)


def load_model(extractor, *, head=False):
    """Return the ``(model, tokenizer)`` of an extractor's parameters.

    With `head` the model predicts tokens; whoever asks for less afterwards gets the same one.
    """
    model, tokenizer = plain(extractor.model), extractor.tokenizer
    box = _box(extractor)
    if is_name(model):
        key = _source(model), str(choose_device(extractor.device)), extractor.dtype
        if head:
            # The model with a head has the other one in it, which is let go.
            box.drop(_load_model)
        head = head or box.holds(_load_causal, *key)
        model = box.get(_load_causal if head else _load_model, *key)
        if tokenizer is None and not reads_images(model):
            tokenizer = extractor.model
    elif head:
        check_causal(model)
    if is_name(tokenizer):
        tokenizer = box.get(_load_tokenizer, _source(tokenizer))
    return model, tokenizer


def load_image_processor(extractor):
    """Return the image processor of an extractor's parameters."""
    processor = extractor.image_processor
    if processor is None:
        if not is_name(extractor.model):
            raise ValueError(
                "With a model object the 'image_processor' parameter is needed as well, unless "
                "images are float arrays of shape (channels, height, width)."
            )
        processor = extractor.model
    if is_name(processor):
        processor = _box(extractor).get(_load_image_processor, _source(processor))
    return processor


def load_causal(model, tokenizer=None):
    """Return ``(model, tokenizer)`` for a model that predicts tokens, by name, path or as it is."""
    if is_name(model):
        tokenizer = model if tokenizer is None else tokenizer
        model = _load_causal(_source(model), str(choose_device("auto")), "auto")
    else:
        model = plain(model)
        check_causal(model)
    if is_name(tokenizer):
        tokenizer = _load_tokenizer(_source(tokenizer))
    return model, tokenizer


def check_causal(model):
    """Raise a ValueError unless `model` predicts the next token."""
    can = getattr(model, "can_generate", lambda: False)()
    if not can or model.get_output_embeddings() is None:
        raise ValueError(
            f"{type(model).__name__} does not predict the next token: load the model with "
            f"AutoModelForCausalLM."
        )


class Loadable:
    """The rule for a name, a path, or an object known by one of its attributes."""

    def __init__(self, attribute, what, *, none=False):
        self.attribute, self.what, self.none = attribute, what, none

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        if value is None:
            return self.none
        return is_name(value) or hasattr(value, self.attribute)

    def __str__(self):
        return f"the name or the path of a {self.what}, or a {self.what}{' or None' * self.none}"


def is_name(value):
    """Whether a parameter is a name or a path rather than the object itself."""
    return isinstance(value, (str, os.PathLike))


def _load_model(name, device, dtype):
    from transformers import AutoModel

    return _cached(AutoModel, name, device, dtype)


def _load_causal(name, device, dtype):
    from transformers import AutoModelForCausalLM

    return _cached(AutoModelForCausalLM, name, device, dtype)


def _cached(auto, name, device, dtype):
    key = auto.__name__, name, device, dtype
    model = _models.get(key)
    if model is None:
        # What the file lacks (BERT's pooler) is drawn at random, but not from the user's stream.
        with torch.random.fork_rng(devices=[]):
            model = auto.from_pretrained(name, dtype=dtype).to(device).eval()
        _models[key] = model
    return model


def _load_tokenizer(name):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name)


def _load_image_processor(name):
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(name)


def _source(name):
    """Return the folder or name to load from; a missing path never becomes a download."""
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    rooted = path.is_absolute() or str(name).startswith((".", "~"))
    if not isinstance(name, str) or rooted or len(path.parts) > 2 or "\\" in name:
        raise FileNotFoundError(f"There is no folder {str(path)!r} to load a model from.")
    return name


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
    embeddings = model.get_input_embeddings().weight if keep_embeddings else None
    seed = check_random_state(random_state).randint(2**31 - 1)
    generator = torch.Generator().manual_seed(int(seed))
    with torch.no_grad():
        for name, weight in model.named_parameters():  # each once, though it may be shared
            if not weight.is_floating_point():
                raise ValueError(
                    f"The weight {name!r} has dtype {weight.dtype}: only floating-point numbers "
                    f"can be drawn. Load the model without quantisation."
                )
            if weight is not embeddings:
                # Over all entries, so that each weight keeps its scale.
                std, mean = torch.std_mean(weight.double().cpu(), correction=0)
                drawn = torch.randn(weight.shape, generator=generator)
                weight.copy_(mean + std * drawn)
    return model, tokenizer
