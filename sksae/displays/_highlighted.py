"""Text with highlighted tokens, for notebooks, terminals and figures."""

import html

import numpy as np

from sksae._params import Int, check_option
from sksae._signs import INK, columns, drawn, visible
from sksae.displays._axes import place
from sksae.interpret import Example

# Through this much colour black text on white and white text on black can both be read.
_PALEST, _STRONGEST = 0.08, 0.5
_POSITIVE, _NEGATIVE = (255, 171, 25), (64, 140, 255)
_ADVANCE = 0.602  # width of a character of a monospaced font, in its size
_POINTS, _LEADING = 10, 1.6  # of a new figure
_PAD = 2 * 3 / 72  # margins of a constrained layout around axes, in inches
_FONTS = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono','Noto Sans Mono CJK KR',monospace"


class HighlightedText:
    """Text whose tokens are coloured by the activation of a feature.

    A notebook shows it as HTML that needs nothing else: every character of the text is escaped,
    line breaks and tabs have signs, and the value stands beside the pointer. `print` shows the
    strongest token in double brackets, and :meth:`plot` draws the text. Tokens with negative
    values are blue and underlined with dots.

    Parameters
    ----------
    examples : Example or list of Example
        One line each, from :func:`sksae.interpret.max_activating_examples` or the `examples` of a
        feature.
    max_activation : float, default=None
        Value with the full colour. None takes the largest value in the examples.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the text, after :meth:`plot`.
    figure_ : matplotlib Figure
        Figure with the axes.
    texts_ : list of matplotlib Text
        The tokens, in reading order; one that does not fit on a line has several.
    boxes_ : list of matplotlib Rectangle
        Coloured boxes behind the tokens whose value is not zero.

    See Also
    --------
    sksae.interpret.max_activating_examples : Finds the examples.
    AttributionDisplay : Several features at once.

    Examples
    --------
    >>> from sksae.displays import HighlightedText
    >>> text = HighlightedText.from_tokens(["a", " <b>", " day"], [0, 2.0, 0.5])
    >>> text
    a[[ <b>]] day
    >>> "&lt;b&gt;" in text.to_html()
    True
    """

    def __init__(self, examples, *, max_activation=None):
        self.examples = examples
        self.max_activation = max_activation

    @classmethod
    def from_tokens(cls, tokens, activations, *, max_activation=None):
        """Highlight tokens by numbers of any kind, such as codes or effects.

        Parameters
        ----------
        tokens : sequence of str of length n_tokens
            The text in pieces, spaces included.
        activations : array-like of shape (n_tokens,)
            One number per piece; negative ones have another colour.
        max_activation : float, default=None
            Value with the full colour. None takes the largest absolute value.

        Returns
        -------
        text : HighlightedText
            The text, which a notebook shows.

        Raises
        ------
        TypeError
            If `tokens` is a single string.
        ValueError
            If there is not one finite number per token.
        """
        if isinstance(tokens, str):
            raise TypeError("tokens is a single string; a list of pieces of text is needed.")
        # None keeps numpy from making a 2-D array of strings of one length.
        strings = np.array([*map(str, tokens), None], dtype=object)[:-1]
        values = np.asarray(activations, dtype=np.float64)
        if values.shape != strings.shape or not len(values) or not np.isfinite(values).all():
            raise ValueError(
                f"activations must be one finite number for each of the {len(strings)} tokens, of "
                f"which there is at least one. Got {np.isfinite(values).sum()} finite numbers in "
                f"an array of shape {values.shape} instead."
            )
        peak = int(np.abs(values).argmax())
        example = Example(peak, 0, float(values[peak]), strings, values, peak=peak)
        return cls(example, max_activation=max_activation)

    @classmethod
    def from_feature(cls, feature, *, n_examples=10):
        """Highlight the strongest examples of a feature, by the largest code it has anywhere.

        Parameters
        ----------
        feature : Feature
            Record of an atlas.
        n_examples : int, default=10
            Largest number of examples.

        Returns
        -------
        text : HighlightedText
            The text, which a notebook shows.
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
        """Return the text as a piece of HTML with its style in it, for light and dark pages.

        Returns
        -------
        markup : str
            One element without scripts, links or classes.
        """
        examples = self._examples()
        top = self._top(examples)
        numbered = len(examples) > 1
        lines = "".join(_line_html(example, top, numbered) for example in examples)
        return f'<div style="font-family:{_FONTS};font-size:.9em;line-height:1.7">{lines}</div>'

    def plot(self, ax=None, *, width=80, **kwargs):
        """Draw the text.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on, whose size sets that of the letters; None makes a figure.
        width : int, default=80
            Characters per line.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.text`.

        Returns
        -------
        display : HighlightedText
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_option("width", width, Int(4))
        examples = self._examples()
        top = self._top(examples)
        pieces = list(_laid_out(examples, width))
        n_lines = max((line for line, *_ in pieces), default=0) + 1
        # Width and height of a new figure.
        inches = width * _ADVANCE * _POINTS / 72, n_lines * _LEADING * _POINTS / 72
        points = None if ax is not None else _POINTS
        ax = place(self, ax, (inches[0] + _PAD, inches[1] + _PAD))
        ax.set_xlim(0, width)
        ax.axis("off")
        points, n_fitting = (points, n_lines) if points else _fitting(ax, width, n_lines)
        ax.set_ylim(n_fitting, 0)  # lines from top to bottom
        strings, properties = drawn([piece[2] for piece in pieces], family="monospace")
        style = {"fontsize": points, "color": INK, "va": "center", **properties, **kwargs}
        self.texts_, self.boxes_ = [], []
        for (line, column, _, value, peak), string in zip(pieces, strings, strict=True):
            weight = {"fontweight": "bold"} if peak else {}
            self.texts_.append(ax.text(column, line + 0.5, string, **{**style, **weight}))
            if value:
                self.boxes_.append(_box(ax, line, column, columns(string), _shade(value, top)))
        return self

    def _examples(self):
        """Return the examples as a list."""
        if hasattr(self.examples, "examples"):
            raise TypeError("examples is a Feature; HighlightedText.from_feature takes one.")
        examples = [self.examples] if hasattr(self.examples, "tokens") else list(self.examples)
        for example in examples:
            if not hasattr(example, "tokens") or not hasattr(example, "activations"):
                raise TypeError(
                    f"examples must be objects of sksae.interpret.Example. Got a "
                    f"{type(example).__name__}; for tokens and numbers there is from_tokens."
                )
            if getattr(example, "image", None) is not None:
                raise TypeError("examples are images, which ImageExamplesDisplay shows.")
        return examples

    def _top(self, examples):
        if self.max_activation is not None:
            return float(self.max_activation) or 1.0
        return (  # 1 where nothing fires, so that nothing is divided by 0
            max((float(np.abs(e.activations).max(initial=0)) for e in examples), default=0) or 1.0
        )


def _shade(value, top):
    """Return red, green, blue up to 255, and the opacity, of a value that is not zero."""
    share = min(1.0, abs(value) / abs(top))
    return (*(_POSITIVE if value > 0 else _NEGATIVE), _PALEST + (_STRONGEST - _PALEST) * share)


def _line_html(example, top, numbered):
    pieces = ["…"] if example.cut_before else []
    cells = zip(example.tokens, np.asarray(example.activations).tolist(), strict=True)
    for i, (token, value) in enumerate(cells):
        pieces.append(_token_html(token, value, top, peak=i == example.peak))
    pieces += ["…"] if example.cut_after else []
    number = ""
    if numbered:
        style = "flex:none;width:4em;margin-right:1em;text-align:right;opacity:.7"
        number = f'<span style="{style}">{example.activation:.3g}</span>'
    style = "flex:auto;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate"
    text = f'<span dir="auto" style="{style}">{"".join(pieces)}</span>'
    return f'<div style="display:flex;margin:.15em 0">{number}{text}</div>'


def _token_html(token, value, top, *, peak):
    """Return one token: escaped, coloured, with its value beside the pointer."""
    shown = html.escape(visible(str(token)))
    if not value:
        return shown
    red, green, blue, alpha = _shade(value, top)
    style = f"background:rgba({red},{green},{blue},{alpha:.2f});border-radius:.15em"
    if peak:
        style += ";font-weight:bold;border-bottom:2px solid"
    elif value < 0:
        style += ";border-bottom:2px dotted"
    return f'<span title="{value:.4g}" style="{style}">{shown}</span>'


def _laid_out(examples, width):
    """Yield ``(line, column, string, value, whether it is the peak)``, lines broken at `width`."""
    line = -1
    for example in examples:
        line, column = line + 1, 0
        cells = list(zip(example.tokens, np.asarray(example.activations).tolist(), strict=True))
        pieces = [(visible(str(t)), a, i == example.peak) for i, (t, a) in enumerate(cells)]
        pieces = [("…", 0.0, False)] * example.cut_before + pieces
        pieces += [("…", 0.0, False)] * example.cut_after
        for string, value, peak in pieces:
            if column and column + columns(string) > width:
                line, column = line + 1, 0
            for part in _parts(string, width):
                # A part that does not fit begins the next line.
                line += bool(column) and column + columns(part) > width
                column = 0 if column + columns(part) > width else column
                yield line, column, part, value, peak
                column += columns(part)


def _parts(string, width):
    """Return a string in parts that each fit on a line."""
    parts = [""]
    for character in string:
        if columns(parts[-1]) + columns(character) > width:
            parts.append("")
        parts[-1] += character
    return parts


def _fitting(ax, width, n_lines):
    """Return the size of letters with which the text fits, and the number of lines that do."""
    ax.figure.draw_without_rendering()  # only now does a layout have its sizes
    box = ax.get_window_extent()
    wide, high = 72 * box.width / ax.figure.dpi, 72 * box.height / ax.figure.dpi
    # The largest letters that fit both ways, at most those of a new figure.
    points = min(wide / width / _ADVANCE, high / n_lines / _LEADING, _POINTS)
    return points, high / points / _LEADING


def _box(ax, line, column, n_columns, shade):
    from matplotlib.patches import Rectangle

    color = tuple(part / 255 for part in shade[:3])
    box = Rectangle(
        (column, line + 0.08), n_columns, 0.84, color=color, alpha=2 * shade[3], linewidth=0
    )
    return ax.add_patch(box)
