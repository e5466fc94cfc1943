"""Sources of windows: texts, token ids and conversations, images; prompts."""

import inspect
from typing import NamedTuple

import numpy as np
import torch

from sksae._arrays import objects
from sksae._params import check_option
from sksae.language_models.extraction._batching import TrialSequences, trial_ids
from sksae.language_models.extraction._context_windows import (
    ContextWindows,
    RowPolicy,
    check_vocabulary,
    context_length,
    cut,
    first_position,
    padded,
    text_of_rows,
    window_length,
)
from sksae.language_models.extraction._forward_passes import hidden_of
from sksae.language_models.extraction._input_items import check_items
from sksae.language_models.extraction._token_table import TokenTable, strings
from sksae.language_models.extraction._tokenizing import (
    Encoding,
    bare_frame,
    encode,
    encode_ids,
    frame_of,
    rendered,
    with_bos,
)
from sksae.language_models.model import (
    Loadable,
    base_of,
    input_device,
    load_image_processor,
    reads_images,
    takes,
)

_ANY_TOKEN = 0  # stands in the padding, which the mask hides and no row comes from
_BYTES_OF_A_TOKEN = 4  # of English text; a guess is enough to cut X into chunks

TOKENIZER = Loadable("all_special_ids", "tokenizer", none=True)
"""The rule for a tokenizer."""


class TextSource:
    """Texts, token ids and conversations, for a model that reads token ids.

    Parameters
    ----------
    base : torch.nn.Module
        A model without its head. It is never run here.
    tokenizer : tokenizer
        Its tokenizer.
    policy : RowPolicy
        How windows are cut, and which tokens become rows.
    """

    kinds = ("text", "input_ids", "messages")

    def __init__(self, base, tokenizer, policy):
        self.base = base
        self.tokenizer = tokenizer
        self.policy = policy
        self.max_length = window_length(base, tokenizer, policy.max_length)
        if policy.prepend_bos:
            # Raises an error where the tokenizer has no BOS.
            with_bos(tokenizer, bare_frame(tokenizer))
        names = inspect.signature(base.forward).parameters
        if policy.position_ids and "position_ids" not in names:
            raise ValueError(f"position_ids=True, but {type(base).__name__} takes no position_ids.")

    def read(self, kind, values, *, first=0, spans):
        """Return the `TextReading` of some items; `spans` says whether a table is needed."""
        texts = rendered(self.tokenizer, values) if kind == "messages" else values
        if kind == "input_ids":
            texts, encoding = encode_ids(self.tokenizer, values, spans=spans)
        else:
            encoding = encode(self.tokenizer, texts, spans=spans)
        windows = cut(
            encoding,
            self._frame(kind, texts),
            self.max_length,
            include_special=self.policy.include_special_tokens,
            drop_first=self.policy.drop_first_position,
        )
        check_vocabulary(self.base, windows.ids)
        return TextReading(self, windows, texts, encoding)

    def trial(self):
        """Return the sequences to try the model with."""
        limit, _ = context_length(self.base, self.tokenizer)
        ids = trial_ids(limit, self.base.get_input_embeddings().num_embeddings)
        # Two sequences of one length, one of another.
        return TrialSequences(*ids, (len(ids[0]), len(ids[2])))

    def probe(self):
        """Return the inputs of one token, whatever it is."""
        return self.inputs([np.array([_ANY_TOKEN])])

    def inputs(self, sequences):
        """Return sequences of token ids, padded to the longest, as arguments of a pass."""
        lengths = np.array([len(ids) for ids in sequences])
        # (n_sequences, n_tokens), False in the padding
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, _ANY_TOKEN, dtype=np.int64)
        ids[mask] = np.concatenate(sequences)  # row by row, as the sequences are end to end
        return self.padded_inputs(ids, mask)

    def padded_inputs(self, ids, mask):
        """Return padded ids and their mask, (n_sequences, n_tokens), as arguments of a pass."""
        device = input_device(self.base)
        inputs = {"input_ids": torch.from_numpy(ids).to(device)}
        if takes(self.base, "attention_mask"):
            inputs["attention_mask"] = torch.from_numpy(mask).long().to(device)
        if self.policy.position_ids:
            positions = torch.arange(ids.shape[1], device=device) + first_position(self.base)
            inputs["position_ids"] = positions.expand(ids.shape)
        return inputs

    def cost(self, kind, value):
        """Estimate the number of tokens of an item."""
        if kind == "input_ids":
            return len(value) + 1  # with a token that the source may add
        if kind == "messages":
            value = "".join(str(message["content"]) for message in value)
        return len(value.encode(errors="replace")) // _BYTES_OF_A_TOKEN + 2

    def _frame(self, kind, texts):
        # Ids and rendered conversations have the special tokens that they are to have.
        bare = kind != "text"
        frame = bare_frame(self.tokenizer) if bare else frame_of(self.tokenizer, texts)
        return with_bos(self.tokenizer, frame) if self.policy.prepend_bos else frame


class TextReading(NamedTuple):
    """Some items of X as windows, with their texts and tokens."""

    source: TextSource
    windows: ContextWindows
    texts: list
    encoding: Encoding

    @property
    def n_texts(self):
        """Number of items."""
        return len(self.texts)

    def feed(self, batch):
        """Return the model's inputs for a batch of windows, and a mask of the tokens to keep."""
        ids, mask, keep = padded(self.windows, batch, _ANY_TOKEN)
        return self.source.padded_inputs(ids, mask), keep

    def table(self, windows, policy):
        """Return the `TokenTable` of the rows of `windows`, those read but for the tokens kept."""
        encoding = self.encoding
        source, ids = windows.source[windows.keep], windows.ids[windows.keep]
        text = text_of_rows(windows)
        # Index of each token within its text.
        position = np.arange(len(encoding.ids)) - np.repeat(
            encoding.bounds[:-1], np.diff(encoding.bounds)
        )
        start, end = (_at_rows(x, source) for x in (encoding.starts, encoding.ends))
        names = np.full(len(ids), "", dtype=object)
        empty = np.flatnonzero(end <= start)  # rows that stand for no characters of the text
        names[empty] = self.source.tokenizer.convert_ids_to_tokens(ids[empty].tolist())
        return TokenTable(
            text=text,
            position=_at_rows(position, source),
            id=ids,
            string=strings(self.texts, text, start, end, names),
            start=start,
            end=end,
            group=_at_rows(_groups(encoding, position), source),
            texts=self.texts,
            policy=policy,
        )


def _at_rows(values, source):
    """Return per-token values at the rows; -1 for special tokens that were added."""
    # An index of -1 is never used: those rows are replaced.
    return np.where(source < 0, -1, values[source]) if len(values) else source


def _groups(encoding, position):
    """Return the position of the first of the tokens that share characters, shape (n_tokens,)."""
    if not len(position):
        return position
    # One axis for all texts: what follows the end of a text never overlaps it.
    shift = np.repeat(np.arange(len(encoding.bounds) - 1), np.diff(encoding.bounds))
    shift = shift * (encoding.ends.max() + 1)
    # End of the characters that the tokens up to each one cover.
    reached = np.maximum.accumulate(encoding.ends + shift)
    first = np.ones(len(position), dtype=bool)
    # A token that begins behind all before it shares no character with them.
    first[1:] = encoding.starts[1:] + shift[1:] >= reached[:-1]
    first |= position == 0
    # The last such token at or before each one.
    return position[np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))]


class Prompt(NamedTuple):
    """The tokens of one prompt, special ones included."""

    ids: torch.Tensor  # (1, n_tokens), on the device of the model's input
    tokens: TokenTable  # one line per token
    special: torch.Tensor  # (n_tokens,): whether the token is a special one

    @property
    def inputs(self):
        """Keyword arguments of a forward pass."""
        return {"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids)}


def tokenized_prompt(model, tokenizer, prompt):
    """Return the `Prompt` of a text, of token ids or of chat messages; the model does not run.

    Raises
    ------
    ValueError
        If there is no token, or there are more than the model reads at once.
    """
    if tokenizer is None:
        raise ValueError("With a model object the 'tokenizer' parameter is needed as well.")
    check_option("tokenizer", tokenizer, TOKENIZER)
    base = base_of(model)
    if reads_images(model):
        raise ValueError(f"{type(model).__name__} reads images, and a prompt is text.")
    kind, values = check_items([prompt])
    if kind == "image":
        raise ValueError("A prompt is a text, token ids or chat messages, and no image.")
    policy = RowPolicy(include_special_tokens=True, drop_first_position=False)
    reading = TextSource(base, tokenizer, policy).read(kind, values, spans=True)
    tokens = reading.table(reading.windows, {})
    limit, _ = context_length(base, tokenizer)
    if not 0 < len(tokens) <= limit:
        raise ValueError(
            f"A prompt has 1 to {limit} tokens for {type(model).__name__}; this one has "
            f"{len(tokens)}."
        )
    ids = torch.from_numpy(tokens.id)[None].to(input_device(base))
    # Special ids count as such where the prompt itself spells them, too.
    special = np.isin(tokens.id, bare_frame(tokenizer).special)
    return Prompt(ids, tokens, torch.from_numpy(special))


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
        n_special = self._n_positions(size) - n_patches  # positions that are no patches come first
        if n_special < 0:
            raise ValueError(
                f"{str(self.point).capitalize()} has {self._n_positions(size)} positions for "
                f"{n_rows} x {n_columns} patches; rows need one position per patch."
            )
        # -1 for a special position.
        source = np.append(np.full(n_special, -1), np.arange(n_patches))
        keep = source >= (-1 if self.policy.include_special_tokens else 0)
        n = len(values)
        windows = ContextWindows(
            ids=np.full(n * len(source), -1),  # images have no token ids
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
            image = np.asarray(image.convert("RGB"))  # (height, width, 3)
        if image.dtype.kind == "f":  # (channels, height, width), as it is
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
        keep = self.windows.keep.reshape(len(self.images), -1)[batch]  # (n_batch, n_positions)
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
