"""Images on which a feature fires, for notebooks and figures."""

import base64

import numpy as np

from sksae._params import Int, check_option
from sksae.displays._axes import check_matplotlib
from sksae.displays._components import panels

_DARKEST = 0.6  # opacity of the shade on a patch on which the feature is silent
_FRAME = "#ffac1c"
_WIDE, _HIGH = 1.5, 1.75  # of a panel, in inches
_COARSE = 64  # pixels of a side below which each pixel is drawn as a square


class ImageExamplesDisplay:
    """Images on which a feature fires: lit where it fires, the strongest patch in a frame.

    A patch is darker the weaker the feature fires on it, by the square root of the activation, and
    darkest where it is silent or the patch is no row. Whole images have no shade. A notebook shows
    the images as HTML that needs nothing else, with values beside the pointer; :meth:`plot` draws
    them.

    Parameters
    ----------
    examples : Example or list of Example
        Examples of an atlas that was fitted with ``images=``.
    max_activation : float, default=None
        Activation of a patch without a shade. None takes the largest in the examples.

    Attributes
    ----------
    axes_ : ndarray of shape (n_examples,) of matplotlib Axes
        One panel per example, after :meth:`plot`.
    figure_ : matplotlib Figure
        Figure with the axes.
    images_ : list of matplotlib AxesImage
        The images.
    shades_ : list of matplotlib AxesImage
        The shades over the patches; none for whole images.
    frames_ : list of matplotlib Rectangle
        The frames; none for whole images, and rows that are no patch.

    See Also
    --------
    sksae.interpret.ImagePatches : Tells an atlas of the images.
    HighlightedText : The same for texts.
    ComponentImagesDisplay : The components themselves as images.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.displays import ImageExamplesDisplay
    >>> from sksae.interpret import FeatureAtlas, ImagePatches
    >>> images = np.zeros((2, 8, 8))
    >>> images[1, 4:, :4] = 1  # the lower left of the four patches of the second image
    >>> codes = [[0], [0], [0], [0], [0], [0], [1], [0]]
    >>> atlas = FeatureAtlas().fit(codes, images=ImagePatches(images, grid=(2, 2)))
    >>> display = ImageExamplesDisplay.from_feature(atlas.feature(0))
    >>> display
    image 1: [[row 1, column 0]]
    >>> display.to_html().count("<img ")
    1
    """

    def __init__(self, examples, *, max_activation=None):
        self.examples = examples
        self.max_activation = max_activation

    @classmethod
    def from_feature(cls, feature, *, n_examples=8):
        """Show the strongest examples of a feature, by the largest code it has anywhere.

        Parameters
        ----------
        feature : Feature
            Record of an atlas that was fitted with ``images=``.
        n_examples : int, default=8
            Largest number of examples.

        Returns
        -------
        display : ImageExamplesDisplay
            The images, which a notebook shows.

        Raises
        ------
        TypeError
            If `feature` is no Feature.
        """
        check_option("n_examples", n_examples, Int(1))
        if not hasattr(feature, "examples"):
            raise TypeError(
                f"feature must be a Feature, such as atlas.feature(0). Got "
                f"{type(feature).__name__} instead."
            )
        return cls(feature.examples[:n_examples], max_activation=feature.max_activation)

    def __repr__(self):
        return "\n".join(str(example) for example in self._examples())

    def _repr_html_(self):
        return self.to_html()

    def to_html(self):
        """Return the images as a piece of HTML with all that it shows in it.

        Returns
        -------
        markup : str
            One element without scripts, links or classes; the images are PNG files in its text.
        """
        examples = self._examples()
        top = self._top(examples)
        return f"<div>{''.join(_figure_html(example, top) for example in examples)}</div>"

    def plot(self, axes=None, *, n_columns=4, **kwargs):
        """Draw the images.

        Parameters
        ----------
        axes : array-like of matplotlib Axes, default=None
            One per example; None makes a figure.
        n_columns : int, default=4
            Images in a line of a new figure.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.imshow`, for the images.

        Returns
        -------
        display : ImageExamplesDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are no examples.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        from matplotlib.patches import Rectangle

        check_option("n_columns", n_columns, Int(1))
        examples = self._examples()
        if not examples:
            raise ValueError("There are no examples to draw: the feature never fires.")
        top = self._top(examples)
        axes = panels(self, axes, len(examples), n_columns, (_WIDE, _HIGH))
        self.images_, self.shades_, self.frames_ = [], [], []
        for ax, example in zip(axes, examples, strict=True):
            image = example.image
            n_rows, n_patches = image.heat.shape
            extent = (0, n_patches, n_rows, 0)  # the image in units of patches
            pixels = np.full((1, 1, 3), 128, "u1") if image.pixels is None else image.pixels
            aspect = pixels.shape[0] / pixels.shape[1] * n_patches / n_rows
            style = {"extent": extent, "aspect": aspect, "interpolation": _interpolation(pixels)}
            self.images_.append(ax.imshow(pixels, **{**style, **kwargs}))
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{example.activation:.3g} · image {image.number}", fontsize=8)
            if image.is_whole:
                continue
            black = np.dstack([np.zeros((*image.heat.shape, 3)), _shades(image.heat, top)])
            shade = {"extent": extent, "aspect": aspect, "interpolation": "nearest"}
            self.shades_.append(ax.imshow(black, **shade))
            if image.peak is not None:
                row, column = image.peak
                frame = Rectangle((column, row), 1, 1, fill=False, edgecolor=_FRAME, linewidth=1.5)
                self.frames_.append(ax.add_patch(frame))
        return self

    def _examples(self):
        """Return the examples as a list."""
        if hasattr(self.examples, "examples"):
            raise TypeError("examples is a Feature; ImageExamplesDisplay.from_feature takes one.")
        examples = [self.examples] if hasattr(self.examples, "tokens") else list(self.examples)
        if any(getattr(example, "image", None) is None for example in examples):
            raise TypeError(
                "examples must be objects of sksae.interpret.Example that have images: fit the "
                "atlas with images=ImagePatches(...). HighlightedText shows texts."
            )
        return examples

    def _top(self, examples):
        largest = max((example.activation for example in examples), default=0)
        return float(self.max_activation or largest) or 1.0


def _shades(heat, top):
    """Return the opacity of the shade on each patch."""
    share = np.clip(np.nan_to_num(heat) / top, 0, 1)
    return _DARKEST * (1 - np.sqrt(share))


def _interpolation(pixels):
    return "nearest" if max(pixels.shape[:2]) < _COARSE else "antialiased"


def _figure_html(example, top):
    """Return an image with the shades over it, and its activation below it."""
    image = example.image
    name = f"image {image.number}"
    picture = f'<span style="opacity:.7">{name} was not kept</span>'
    if image.pixels is not None:
        data = base64.b64encode(image.png()).decode("ascii")
        drawn = "pixelated" if _interpolation(image.pixels) == "nearest" else "auto"
        style = f"display:block;width:100%;margin:0;image-rendering:{drawn}"
        picture = f'<img src="data:image/png;base64,{data}" alt="{name}" style="{style}">'
    over = "" if image.is_whole else _shades_svg(image, top)
    return (
        '<span style="display:inline-block;width:9em;margin:.3em;vertical-align:top">'
        f'<span style="display:block;position:relative">{picture}{over}</span>'
        f'<span style="font-size:.85em">{example.activation:.3g} · {name}</span></span>'
    )


def _shades_svg(image, top):
    """Return the shades and the frame as an SVG that covers the image."""
    n_rows, n_columns = image.heat.shape
    shades, rects = _shades(image.heat, top), []
    for (row, column), activation in np.ndenumerate(image.heat):
        value = "no row" if np.isnan(activation) else f"{activation:.4g}"
        rects.append(
            f'<rect x="{column}" y="{row}" width="1" height="1" '
            f'fill-opacity="{shades[row, column]:.2f}"><title>{value}</title></rect>'
        )
    if image.peak is not None:
        row, column = image.peak
        rects.append(
            f'<rect x="{column}" y="{row}" width="1" height="1" fill="none" stroke="{_FRAME}" '
            'stroke-width="2" vector-effect="non-scaling-stroke"/>'
        )
    style = "position:absolute;inset:0;width:100%;height:100%"
    return (
        f'<svg viewBox="0 0 {n_columns} {n_rows}" preserveAspectRatio="none" '
        f'shape-rendering="crispEdges" style="{style}">{"".join(rects)}</svg>'
    )
