"""Images to patches: the source of a model that reads pixels."""

from functools import partial

import numpy as np
import torch

from sksae._arrays import objects
from sksae.language_models._sites import input_device
from sksae.language_models.extraction._batching import Trial
from sksae.language_models.extraction._passes import hidden_of
from sksae.language_models.extraction._sources import Reading
from sksae.language_models.extraction._tokens import TokenTable
from sksae.language_models.extraction._windows import Windows, text_of_rows


class ImageSource:
    """Images, for a model that reads ``pixel_values``; an image is one window.

    Parameters
    ----------
    base : torch.nn.Module
        A model without its head.
    place : Place
        Where in `base` the activations are.
    processor : callable
        Returns the image processor; called when an image needs one.
    extractor : ActivationExtractor
        Whose parameters say what becomes a row.
    """

    kinds = ("image",)

    def __init__(self, base, place, processor, extractor):
        self.base = base
        self.place = place
        self.processor = processor
        self.extractor = extractor
        self._lengths = {}
        for name in ("position_ids", "prepend_bos"):
            if getattr(extractor, name):
                raise ValueError(f"{name}=True, but {type(base).__name__} reads images.")

    def read(self, kind, values, policy, *, first=0, spans):
        """Return the `Reading` of some images; `first` is the index in X of the first of them."""
        size = self._pixels(values[0], first).shape if values else self._default_size()
        rows, columns = self._grid(size)
        n_special = self._n_positions(size) - rows * columns
        if n_special < 0:
            raise ValueError(
                f"{str(self.place).capitalize()} has {self._n_positions(size)} positions for "
                f"{rows} x {columns} patches; rows need one position a patch."
            )
        source = np.append(np.full(n_special, -1), np.arange(rows * columns))
        keep = source >= (-1 if self.extractor.include_special_tokens else 0)
        n = len(values)
        windows = Windows(
            ids=np.full(n * len(source), -1),
            source=np.tile(source, n),
            keep=np.tile(keep, n),
            bounds=np.arange(n + 1) * len(source),
            text=np.arange(n),
        )
        names = _names(n_special, columns, rows * columns)
        texts = [f"image {first + i}" for i in range(n)]
        table = partial(_table, texts, names, policy=policy)
        return Reading(windows, partial(self._feed, windows, values, size, first), table)

    def trial(self):
        """Return three images of noise to try the model with."""
        shape = 3, *self._default_size()
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return Trial(*images, (None, None), self._inputs)

    def probe(self):
        """Return the inputs of one image that is black."""
        return self._inputs([np.zeros(self._default_size(), dtype=np.float32)])

    def cost(self, kind, value):
        """Guess how many patches an image has."""
        rows, columns = self._grid(self._default_size())
        return rows * columns + 1

    def _feed(self, windows, values, size, first, batch):
        images = []
        for i in batch:
            pixels = self._pixels(values[i], first + i)
            if pixels.shape != size:
                raise ValueError(
                    f"All images must have one size: X[{first + i}] has shape {pixels.shape}, but "
                    f"X[{first}] {size}."
                )
            images.append(pixels)
        keep = windows.keep.reshape(len(values), -1)[batch]
        return self._inputs(images), keep

    def _pixels(self, image, index):
        """Return the pixels of an image as the model reads them, (channels, height, width)."""
        if not isinstance(image, np.ndarray):
            image = np.asarray(image.convert("RGB"))
        if image.dtype.kind == "f":
            return image
        n_channels = self._default_size()[0]
        if image.dtype != np.uint8 or image.shape[-1] != n_channels:
            raise ValueError(
                f"X[{index}] is an array of {image.dtype} and shape {image.shape}. An image is "
                f"uint8 of shape (height, width, {n_channels}), or float of shape ({n_channels}, "
                f"height, width) and then passed to the model as it is."
            )
        done = self.processor()([image], input_data_format="channels_last", return_tensors="np")
        return np.asarray(done["pixel_values"][0])

    def _inputs(self, images):
        dtype = next(self.base.parameters()).dtype
        pixels = torch.from_numpy(np.stack(images))
        return {"pixel_values": pixels.to(input_device(self.base), dtype)}

    def _n_positions(self, size):
        if size not in self._lengths:
            inputs = self._inputs([np.zeros(size, dtype=np.float32)])
            self._lengths[size] = hidden_of(self.base, self.place, inputs).shape[1]
        return self._lengths[size]

    def _default_size(self):
        config = self.base.config
        return (getattr(config, "num_channels", 3), *_pair(config.image_size))

    def _grid(self, size):
        height, width = _pair(self.base.config.patch_size)
        return size[1] // height, size[2] // width


def _pair(size):
    return tuple(size) if isinstance(size, (tuple, list)) else (size, size)


def _names(n_special, columns, n_patches):
    """Return what each position of an image is called."""
    names = [f"[REG{i}]" if i else "[CLS]" for i in range(n_special)]
    names += [f"row {i // columns}, column {i % columns}" for i in range(n_patches)]
    return objects(names)


def _table(texts, names, windows, policy):
    """Return the `TokenTable` of the rows of `windows`, which are patches."""
    position = windows.source[windows.keep]
    nowhere = np.full(len(position), -1)
    return TokenTable(
        text=text_of_rows(windows),
        position=position,
        id=nowhere,
        string=np.tile(names, len(texts))[windows.keep],
        start=nowhere,
        end=nowhere,
        group=position,
        texts=texts,
        policy=policy,
    )
