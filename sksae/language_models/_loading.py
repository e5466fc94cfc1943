"""Models and tokenizers by name or path, loaded once and shared.

A loaded model lives as long as an extractor that used it, or a clone of one: a search over layers
loads the model once, and dropping the extractors frees it. Nothing is kept on the estimators
themselves, so neither a pickle nor ``__dict__`` ever holds what was loaded.
"""

import os
import weakref
from pathlib import Path

import torch

from sksae._arrays import choose_device
from sksae.language_models._sites import plain, reads_images

_models = weakref.WeakValueDictionary()
_boxes = weakref.WeakKeyDictionary()


class _Box:
    """The last thing each loader returned, shared by an extractor and its clones."""

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


def share(extractor, twin):
    """Let `twin` use what `extractor` loads, and the other way round."""
    _boxes[twin] = _box(extractor)


def load(extractor, *, head=False):
    """Return the ``(model, tokenizer)`` that an extractor's parameters stand for.

    With `head` the model predicts tokens; whoever asks for less afterwards gets the same one.
    """
    model, tokenizer = plain(extractor.model), extractor.tokenizer
    box = _box(extractor)
    if is_name(model):
        key = _source(model), str(choose_device(extractor.device)), extractor.dtype
        if head:
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
    """Return the image processor that an extractor's parameters stand for."""
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
    """Return where to load from; a path that does not exist never becomes a download."""
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    rooted = path.is_absolute() or str(name).startswith((".", "~"))
    if not isinstance(name, str) or rooted or len(path.parts) > 2 or "\\" in name:
        raise FileNotFoundError(f"There is no folder {str(path)!r} to load a model from.")
    return name
