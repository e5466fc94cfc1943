"""Images that the rows of an atlas are patches of, and what an atlas keeps of them."""

import re
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sksae._arrays import objects
from sksae._params import Int, check_option
from sksae._runs import ranks_in_runs
from sksae.interpret._token_cells import column_of

PIXEL_BYTES = 2**25
"""Most bytes of pixels, three per pixel, that an atlas keeps of all images together."""

MOST_PATCHES = 2**14  # of an image; all of them are in one window
_SMALLEST = 32  # pixels of the longest side, below which images are left out rather than shrunk
_NAME = re.compile(r"row (\d+), column (\d+)")


class ImagePatches:
    """Images, and the place that each row of an atlas has in them.

    A row is a patch of an image, such as a token of a vision transformer, or a whole image. Patches
    divide their image evenly, row by row from the upper left corner.

    Parameters
    ----------
    images : sequence of ndarray or of PIL images
        The images as they are shown: of shape (height, width) or (height, width, 3), uint8 or
        float from 0 to 1. An array of shape (n_images, height, width, 3), a memory map, or
        anything with a length and items will do: one image at a time is read, and only those that
        the atlas shows.
    grid : tuple of int (n_rows, n_columns), default=None
        Patches of an image, down and across. None takes what the extractor says, and without an
        extractor ``(1, 1)``: a row is a whole image.
    image : array-like of int of shape (n_rows,), default=None
        Index in `images` of the image of each row. None takes the column ``text`` of the token
        table; without a table, the rows are all patches of the first image, then all of the
        second, and so on.
    patch : array-like of int of shape (n_rows,), default=None
        Number of the patch of each row, ``row * n_columns + column``; -1 for a row that is no
        patch, such as a class token or a register. It goes with `image`, and is needed unless a
        row is a whole image. None takes the column ``position`` of the token table, or the order
        of the rows.
    side : int, default=128
        Pixels of the longest side of what the atlas keeps of an image. Larger images are reduced to
        the means of their pixels, all to the same longest side.

    See Also
    --------
    FeatureAtlas : Its `fit` takes them.
    sksae.displays.ImageExamplesDisplay : Draws the strongest examples of a feature.

    Notes
    -----
    An atlas keeps the images of its examples only, in at most 32 MiB of pixels (three bytes each).
    Where they would need more, all are reduced to 96, 64, 48 or 32 pixels of the longest side;
    where that is still too much, the weaker examples have no image. ``atlas.facts_["images"]`` says
    what was kept.

    If the image processor of a model cuts images to their middle, give images that are cut in the
    same way.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import FeatureAtlas, ImagePatches
    >>> images = np.zeros((2, 8, 8))
    >>> images[1, 4:, :4] = 1  # the lower left of the four patches of the second image
    >>> patches = images.reshape(2, 2, 4, 2, 4).swapaxes(2, 3).reshape(8, 16)
    >>> codes = patches.max(axis=1, keepdims=True)
    >>> atlas = FeatureAtlas().fit(codes, images=ImagePatches(images, grid=(2, 2)))
    >>> example = atlas.feature(0).examples[0]
    >>> example.image.number, example.image.peak, example.image.heat.tolist()
    (1, (1, 0), [[0.0, 0.0], [1.0, 0.0]])
    """

    def __init__(self, images, grid=None, *, image=None, patch=None, side=128):
        if not hasattr(images, "__len__") or not hasattr(images, "__getitem__"):
            raise TypeError(
                f"images must have a length and items. Got {type(images).__name__} instead."
            )
        if grid is not None and not _is_grid(grid):
            raise ValueError(
                f"grid must be (n_rows, n_columns), of at most {MOST_PATCHES:,} patches. "
                f"Got {grid!r} instead."
            )
        check_option("side", side, Int(8, 1024))
        self.images = images
        self.grid = None if grid is None else (int(grid[0]), int(grid[1]))
        self.image = image
        self.patch = patch
        self.side = side

    def __repr__(self):
        return f"ImagePatches({len(self.images):,} images, grid={self.grid})"


class PlacedRows(NamedTuple):
    """Rows with their images and patches, in the form of a token table."""

    text: np.ndarray  # (n_rows,): the image
    position: np.ndarray  # (n_rows,): the patch, -1 for none
    string: np.ndarray  # (n_rows,), object
    policy: dict
    grid: tuple


def placed_rows(patches, tokens, n_rows, first=0):
    """Return the `PlacedRows` of a token table, of one label per row, or of None.

    Parameters
    ----------
    patches : ImagePatches
    tokens : token table, labels or None
        As for `FeatureAtlas.fit`.
    n_rows : int
        Rows to place.
    first : int, default=0
        Index of the image that the table calls 0.
    """
    text, string = column_of(tokens, "text"), column_of(tokens, "string")
    if isinstance(tokens, (str, bytes)):
        raise TypeError("tokens must be a token table or one label per row; got one string.")
    if text is not None and string is not None:
        rows = _of_table(patches, tokens, np.asarray(text), objects(list(string)), first)
    else:
        rows = _of_order(patches, tokens, n_rows)
    n_patches = rows.grid[0] * rows.grid[1]
    if not len(rows.text) == len(rows.position) == len(rows.string) == n_rows:
        raise ValueError(
            f"There are {n_rows} rows, but tokens or image and patch are of "
            f"{len(rows.text)}, {len(rows.position)} and {len(rows.string)}."
        )
    _check_numbers("image", rows.text + first, 0, len(patches.images))
    _check_numbers("patch", rows.position, -1, n_patches)
    return rows


def _of_table(patches, tokens, text, string, first):
    """Return the rows of a token table, each at its ``position``."""
    if patches.image is not None or patches.patch is not None:
        raise ValueError("tokens is a table, which places the rows: leave out image and patch.")
    policy = dict(getattr(tokens, "policy", {}))
    if policy.get("input", "image") != "image":
        raise ValueError(
            f"tokens is the table of a model that reads {policy['input']}, not images."
        )
    if policy.get("cropped"):
        raise ValueError(
            "The image processor cuts images to their middle, so that the patches are not "
            "those of the images as they were given. Process them first, give the float arrays "
            "to the extractor, and images that are cut in the same way to ImagePatches."
        )
    position = column_of(tokens, "position")
    if position is None or text.dtype.kind not in "iu":
        raise ValueError(
            "The table of tokens needs the columns 'text', the index of the image of each row, "
            "and 'position', the number of the patch."
        )
    said = policy.get("grid")
    said = None if said is None else tuple(map(int, said.split(" x ")))
    grid = patches.grid or said
    if grid is None:
        raise ValueError("grid is needed: the table of tokens does not say it.")
    position = np.asarray(position)
    named = ((at, _NAME.fullmatch(str(name))) for at, name in _different(position, string))
    shifted = any(match and at != int(match[1]) * grid[1] + int(match[2]) for at, match in named)
    if shifted or (said is not None and said != grid):
        known = f" of {said[0]} x {said[1]}" if said else ""
        raise ValueError(f"The patches{known} in tokens are not those of grid={grid}.")
    return PlacedRows(text, position, string, {**policy, "input": "image"}, grid)


def _of_order(patches, labels, n_rows):
    """Return rows at the given places, or else all patches of one image after the other."""
    grid = patches.grid or (1, 1)
    n_patches = grid[0] * grid[1]
    if patches.image is None and patches.patch is None:
        if n_rows != len(patches.images) * n_patches:
            raise ValueError(
                f"{len(patches.images)} images of {grid[0]} x {grid[1]} patches have "
                f"{len(patches.images) * n_patches} rows. Got {n_rows} instead; image and patch "
                "say which row is where."
            )
        image, patch = np.divmod(np.arange(n_rows), n_patches)
    elif patches.image is None or (patches.patch is None and n_patches > 1):
        raise ValueError("image and patch go together: both have one number per row.")
    else:
        image = np.asarray(patches.image)
        patch = np.zeros(len(image), dtype=int) if patches.patch is None else patches.patch
        patch = np.asarray(patch)
    if labels is not None:
        string = objects([str(label) for label in labels])
    elif n_patches == 1:
        string = objects([str(number) for number in image.tolist()])
    else:
        numbers = np.unique(patch)
        names = objects([_place_name(number, grid[1]) for number in numbers.tolist()])
        string = names[np.searchsorted(numbers, patch)]
    return PlacedRows(image, patch, string, {"input": "image"}, grid)


@dataclass(frozen=True, eq=False, repr=False)
class ExampleImage:
    r"""The image of an example, with the activation of each of its patches.

    Pages and displays read it.

    Parameters
    ----------
    number : int
        Index of the image.
    pixels : ndarray of shape (height, width, 3), dtype=uint8, or None
        The image, reduced. None where there were too many images to keep.
    heat : ndarray of shape (n_rows, n_columns)
        Activation of each patch; NaN for patches that are no rows. Of shape (1, 1) where the row is
        the whole image.
    peak : tuple of int (row, column) or None
        The patch of the example's row. None if the row is no patch, such as a class token.

    See Also
    --------
    ImagePatches : Says which row is where.
    Example : Has it as `image`.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import ExampleImage
    >>> pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    >>> image = ExampleImage(17, pixels, np.array([[0, 0.5], [2.0, 0]]), peak=(1, 0))
    >>> image.is_whole, image.png()[:4]
    (False, b'\x89PNG')
    """

    number: int
    pixels: np.ndarray
    heat: np.ndarray
    peak: tuple

    def __repr__(self):
        shape = None if self.pixels is None else self.pixels.shape
        return (
            f"ExampleImage(number={self.number}, pixels={shape}, heat={self.heat.shape}, "
            f"peak={self.peak})"
        )

    @property
    def is_whole(self):
        """Whether the row is the whole image."""
        return self.heat.size == 1

    def png(self):
        """Return the pixels as a PNG file.

        Returns
        -------
        content : bytes
            The file.

        Raises
        ------
        ValueError
            If the image was not kept.
        """
        if self.pixels is None:
            raise ValueError(f"Image {self.number} was not kept.")
        height, width = self.pixels.shape[:2]
        lines = self.pixels.reshape(height, -1).astype(np.int16)
        above = np.vstack([np.zeros_like(lines[:1]), lines[:-1]])
        # Each line is the difference to the one above it (filter 2), which compresses well.
        filtered = ((lines - above) % 256).astype(np.uint8)
        scan = np.hstack([np.full((height, 1), 2, dtype=np.uint8), filtered]).tobytes()
        size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, red green blue
        chunks = ((b"IHDR", size), (b"IDAT", zlib.compress(scan, 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )


def image_arrays(patches, grid, position, arrays, sources):
    """Return the arrays of an atlas about images, and a fact that says what was kept.

    Parameters
    ----------
    patches : ImagePatches
    grid : tuple of int
    position : ndarray of shape (n_cells,), dtype=int16
        The patch of each cell, -1 for none.
    arrays : dict of str to ndarray
        The arrays of the pass, of which the places are read.
    sources : list of int
        The image of each text.
    """
    source = np.array(sources, dtype=np.int64)
    # Images of the strongest examples of all features come first, then those of the second ones.
    ranks, texts = [], []
    for name in ("strongest", "sampled", "lexical", "shared"):
        ranks.append(ranks_in_runs(arrays[f"{name}_bucket"]) + (name != "strongest") * 2**32)
        texts.append(arrays[f"{name}_text"])
    order = np.argsort(np.concatenate(ranks), kind="stable")
    number, first = np.unique(source[np.concatenate(texts)[order]], return_index=True)
    number = number[np.argsort(first)]
    side = patches.side
    for smaller in (96, 64, 48, _SMALLEST):
        if len(number) * 3 * side**2 > PIXEL_BYTES:
            side = min(side, smaller)
    kept = np.sort(number[: PIXEL_BYTES // (3 * side**2)])
    pixels = [_reduced(_pixels(patches.images[i], i), side) for i in kept.tolist()]
    shapes = [image.shape[:2] for image in pixels]
    content = {
        "image_grid": np.array(grid, dtype=np.int64),
        "image_number": kept,
        "image_shape": np.array(shapes, dtype=np.int64).reshape(-1, 2),
        "image_pixels": np.concatenate([*(image.ravel() for image in pixels), np.zeros(0, "u1")]),
        "cell_patch": position,
    }
    fact = f"{len(kept):,} of {len(patches.images):,} kept, at most {side} pixels a side"
    if len(kept) < len(number):
        fact += f", {len(number) - len(kept):,} left out"
    return content, fact


class KeptImages:
    """The images of an atlas, from its arrays.

    Parameters
    ----------
    arrays : dict of str to ndarray
    """

    def __init__(self, arrays):
        self.arrays = arrays
        self.grid = tuple(arrays["image_grid"].tolist())
        sizes = arrays["image_shape"].prod(axis=1) * 3
        self.bounds = np.append(0, np.cumsum(sizes))  # of each image in `image_pixels`

    def of_example(self, number, cells, activations, peak):
        """Return the `ExampleImage` of a window.

        Parameters
        ----------
        number : int
            Of the image.
        cells : slice
            The cells of the window.
        activations : ndarray of shape (n_window,)
        peak : int
            The place in the window of the example's row.
        """
        patch = self.arrays["cell_patch"][cells].astype(np.int64)
        heat = np.full(self.grid[0] * self.grid[1], np.nan)
        np.fmax.at(heat, patch[patch >= 0], activations[patch >= 0])
        at = int(patch[peak])
        return ExampleImage(
            number=number,
            pixels=self._pixels(number),
            heat=heat.reshape(self.grid),
            peak=divmod(at, self.grid[1]) if at >= 0 else None,
        )

    def _pixels(self, number):
        numbers = self.arrays["image_number"]
        line = int(np.searchsorted(numbers, number))
        if line == len(numbers) or numbers[line] != number:
            return None
        content = self.arrays["image_pixels"][self.bounds[line] : self.bounds[line + 1]]
        return content.reshape(*self.arrays["image_shape"][line].tolist(), 3)


def _pixels(image, number):
    """Return an image as an array of uint8 of shape (height, width, 3)."""
    if not isinstance(image, np.ndarray) and hasattr(image, "convert"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not is_image or 0 in pixels.shape or (pixels.dtype != np.uint8 and pixels.dtype.kind != "f"):
        raise ValueError(
            f"images[{number}] must be of shape (height, width) or (height, width, 3), uint8 or "
            f"float from 0 to 1. Got {pixels.dtype} of shape {pixels.shape} instead."
        )
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is refused as well
            raise ValueError(
                f"images[{number}] must be from 0 to 1, or uint8. Got values from "
                f"{pixels.min():.3g} to {pixels.max():.3g}."
            )
        pixels = np.rint(pixels * 255).astype(np.uint8)
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def _reduced(pixels, side):
    """Return an image whose longest side has at most `side` pixels, each the mean of several."""
    longest = max(pixels.shape[:2])
    if longest <= side:
        return pixels
    values = pixels.astype(np.float64)
    for axis in (0, 1):
        size = pixels.shape[axis]
        n_left = max(1, round(size * side / longest))
        starts = np.arange(n_left) * size // n_left
        counts = np.diff(np.append(starts, size))
        values = np.add.reduceat(values, starts, axis=axis)
        values /= counts.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return np.rint(values).astype(np.uint8)


def _is_grid(grid):
    numbers = np.asarray(grid)
    valid = numbers.shape == (2,) and numbers.dtype.kind in "iu" and numbers.min() >= 1
    return valid and numbers.prod() <= MOST_PATCHES


def _place_name(patch, n_columns):
    if patch < 0:
        return "no patch"
    return f"row {patch // n_columns}, column {patch % n_columns}"


def _different(position, string):
    """Return the pairs of a position and its name, each once."""
    return set(zip(position.tolist(), string.tolist(), strict=True))


def _check_numbers(name, numbers, start, stop):
    """Raise a ValueError unless numbers are ints from `start` on, below `stop`."""
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise ValueError(f"{name} must be one int per row. Got {numbers!r} instead.")
    if len(numbers) and not start <= numbers.min() <= numbers.max() < stop:
        raise ValueError(
            f"{name} must be from {start} to {stop - 1}. Got {numbers.min()} to {numbers.max()}."
        )
