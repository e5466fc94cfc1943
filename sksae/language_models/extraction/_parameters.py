"""The parameters of an extractor: their rules, and those that decide which tokens become rows."""

import copy

import torch

from sksae._params import Bool, Float, Instance, Int, Option, Verbosity, check_params
from sksae.language_models._loading import Loadable, is_name, share
from sksae.language_models._pickling import by_name
from sksae.language_models._sites import reads_images
from sksae.language_models.extraction._pooling import POOLINGS

RULES = {
    "model": Loadable("get_input_embeddings", "Hugging Face model"),
    "layer": Int(none=True),
    "site": Instance(str, description="a str"),
    "tokenizer": Loadable("all_special_ids", "tokenizer", none=True),
    "image_processor": Loadable("preprocess", "image processor", none=True),
    "pooling": Option(None, *POOLINGS),
    "max_length": Int(1, none=True),
    "include_special_tokens": Bool(),
    "drop_first_position": Bool(),
    "max_norm_ratio": Float(1, open_="low", none=True),
    "prepend_bos": Bool(),
    "position_ids": Bool(),
    "batch_tokens": Int(1),
    "device": Instance(str, torch.device, description="'auto' or the name of a device"),
    "dtype": Option("auto", "float32", "bfloat16", "float16"),
    "verbose": Verbosity(),
}

POLICY = (
    "include_special_tokens",
    "drop_first_position",
    "max_norm_ratio",
    "max_length",
    "prepend_bos",
    "position_ids",
)
"""Parameters that a token table records, besides model, site and kind of X."""


def check_parameters(extractor):
    """Raise a ValueError if the parameters are wrong or do not go together; load nothing."""
    check_params(extractor)
    if is_name(extractor.model):
        return
    if extractor.tokenizer is None and not reads_images(extractor.model):
        raise ValueError("With a model object the 'tokenizer' parameter is needed as well.")
    for name in ("device", "dtype"):
        if getattr(extractor, name) != "auto":
            raise ValueError(
                f"A model object is used as it is: leave {name}='auto' and move the model "
                f"yourself, as in model.to({getattr(extractor, name)!r})."
            )


def twin_of(extractor):
    """Return an extractor with the same parameters, none of them copied: one may be a model."""
    twin = type(extractor)(**extractor.get_params(deep=False))
    for name in ("_sklearn_output_config", "_metadata_request", "_weights"):
        if name in extractor.__dict__:
            setattr(twin, name, copy.deepcopy(getattr(extractor, name)))
    share(extractor, twin)
    return twin


class SharedModel:
    """Mixin: copies of an extractor share its model, and a pickle has the model's name."""

    def __sklearn_clone__(self):
        return twin_of(self)

    def __copy__(self):
        return twin_of(self)

    def __deepcopy__(self, memo):
        return twin_of(self)

    def __getstate__(self):
        return by_name(super().__getstate__())
