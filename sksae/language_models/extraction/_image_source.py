"""Images as windows of patches, for a model that reads pixels."""

from typing import NamedTuple

import numpy as np
import torch

from sksae._arrays import objects
from sksae.language_models.extraction._batching import TrialSequences
from sksae.language_models.extraction._context_windows import ContextWindows, text_of_rows
from sksae.language_models.extraction._forward_passes import hidden_of
from sksae.language_models.extraction._token_table import TokenTable
from sksae.language_models.model import input_device, load_image_processor


class ImageSource:
    """Images, for a model that reads ``pixel_values``; an image is one window.

    Parameters
    ----------
    base : torch.nn.Module
        A model without its head.
    point : HookPoint
        A hook point of the activations in `base`.
    extractor : ActivationExtractor
        Its image processor is loaded when an image needs one.
    policy : RowPolicy
        Which patches become rows.
    """

    kinds = ("image",)

    def __init__(self, base, point, extractor, policy):
        self.base = base
        self.point = point
        self.extractor = extractor
        self.policy = policy
        self._lengths = {}  # size of an image: number of positions
        self.is_cropped = False  # whether the processor cut an image to its middle
        for name in ("position_ids", "prepend_bos"):
            if getattr(policy, name):
                raise ValueError(f"{name}=True, but {type(base).__name__} reads images.")

    def read(self, kind, values, *, first=0, spans):
        """Return the `ImageReading` of some images; `first` is the index in X of the first."""
        size = self.pixels(values[0], first).shape if values else self._default_size()
        n_rows, n_columns = self._grid(size)
        n_patches = n_rows * n_columns
        n_special = self._n_positions(size) - n_patches
        if n_special < 0:
            raise ValueError(
                f"{str(self.point).capitalize()} has {self._n_positions(size)} positions for "
                f"{n_rows} x {n_columns} patches; rows need one position per patch."
            )
        source = np.append(np.full(n_special, -1), np.arange(n_patches))
        keep = source >= (-1 if self.policy.include_special_tokens else 0)
        n = len(values)
        windows = ContextWindows(
            ids=np.full(n * len(source), -1),
            source=np.tile(source, n),
            keep=np.tile(keep, n),
            bounds=np.arange(n + 1) * len(source),
            text=np.arange(n),
        )
        names = [f"[REG{i}]" if i else "[CLS]" for i in range(n_special)]
        names += [f"row {i // n_columns}, column {i % n_columns}" for i in range(n_patches)]
        grid = f"{n_rows} x {n_columns}"
        return ImageReading(self, windows, values, first, size, objects(names), grid)

    def trial(self):
        """Return three images of noise to try the model with."""
        shape = 3, *self._default_size()
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return TrialSequences(*images, (None, None))

    def probe(self):
        """Return the inputs of one image that is black."""
        return self.inputs([np.zeros(self._default_size(), dtype=np.float32)])

    def inputs(self, images):
        """Return arrays of pixels of one size as arguments of a forward pass."""
        dtype = next(self.base.parameters()).dtype
        pixels = torch.from_numpy(np.stack(images))
        return {"pixel_values": pixels.to(input_device(self.base), dtype)}

    def cost(self, kind, value):
        """Estimate the number of patches of an image."""
        n_rows, n_columns = self._grid(self._default_size())
        return n_rows * n_columns + 1

    def pixels(self, image, index):
        """Return the pixels of X[index] as the model reads them, (channels, height, width)."""
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
        processor = load_image_processor(self.extractor)
        self.is_cropped |= bool(getattr(processor, "do_center_crop", False))
        processed = processor([image], input_data_format="channels_last", return_tensors="np")
        return np.asarray(processed["pixel_values"][0])

    def _n_positions(self, size):
        if size not in self._lengths:
            inputs = self.inputs([np.zeros(size, dtype=np.float32)])
            self._lengths[size] = hidden_of(self.base, [self.point], inputs)[0].shape[1]
        return self._lengths[size]

    def _default_size(self):
        config = self.base.config
        return (getattr(config, "num_channels", 3), *_pair(config.image_size))

    def _grid(self, size):
        """Return the numbers of rows and of columns of patches."""
        height, width = _pair(self.base.config.patch_size)
        return size[1] // height, size[2] // width


class ImageReading(NamedTuple):
    """Some images as windows, one per image."""

    source: ImageSource
    windows: ContextWindows
    images: list
    first: int  # index in X of the first image
    size: tuple  # of the pixels of each image
    names: np.ndarray  # (n_positions,): names of the positions of an image
    grid: str  # rows and columns of patches of an image, "14 x 14"

    @property
    def n_texts(self):
        """Number of images."""
        return len(self.images)

    def feed(self, batch):
        """Return the model's inputs for a batch of images, and a mask of the patches to keep."""
        arrays = []
        for i in batch:
            pixels = self.source.pixels(self.images[i], self.first + i)
            if pixels.shape != self.size:
                raise ValueError(
                    f"All images must have one size: X[{self.first + i}] has shape "
                    f"{pixels.shape}, but X[{self.first}] {self.size}."
                )
            arrays.append(pixels)
        keep = self.windows.keep.reshape(len(self.images), -1)[batch]
        return self.source.inputs(arrays), keep

    def table(self, windows, policy):
        """Return the `TokenTable` of the rows of `windows`, which are patches."""
        position = windows.source[windows.keep]
        nowhere = np.full(len(position), -1)
        policy = {**policy, "grid": self.grid}
        if self.source.is_cropped:
            policy["cropped"] = True  # patches are of the middle of an image
        return TokenTable(
            text=text_of_rows(windows),
            position=position,
            id=nowhere,
            string=np.tile(self.names, len(self.images))[windows.keep],
            start=nowhere,
            end=nowhere,
            group=position,
            texts=[f"image {self.first + i}" for i in range(len(self.images))],
            policy=policy,
        )


def _pair(size):
    return tuple(size) if isinstance(size, (tuple, list)) else (size, size)
