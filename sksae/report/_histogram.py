"""The histogram of feature densities as inline SVG."""

import math

import numpy as np

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 22, 50
BINS_PER_DECADE = 4


def density_histogram(density, n_rows):
    """Return an SVG histogram of ``log10(density)``, dead features in a bar of their own.

    Parameters
    ----------
    density : ndarray of shape (n_components,)
        Share of the rows on which each feature fires.
    n_rows : int
        Number of rows it was measured on; ``1 / n_rows`` is where the axis begins.

    Returns
    -------
    svg : str
        An ``<svg>`` element with a text alternative; colours come from the page's style sheet.
    """
    decades = max(1, math.ceil(math.log10(max(n_rows, 2))))
    alive = density[density > 0]
    n_dead = len(density) - len(alive)
    edges = np.linspace(-decades, 0, decades * BINS_PER_DECADE + 1)
    # A density of 1 belongs to the last bin, rounding never pushes 1 / n_rows out of the first.
    heights = np.histogram(np.clip(np.log10(alive), -decades, 0), edges)[0]
    step = (WIDTH - LEFT - RIGHT) / (len(heights) + 3)  # two bars for the dead, one for a gap
    top = max(1, int(heights.max(initial=0)), n_dead)
    scale = (HEIGHT - TOP - BOTTOM) / top

    def x_of(log_density):
        return LEFT + step * (3 + (log_density + decades) * BINS_PER_DECADE)

    parts = [*_counts(top, scale), _bar("dead", LEFT + step / 4, 1.5 * step, n_dead, scale, "dead")]
    for low, height in zip(edges[:-1].tolist(), heights.tolist(), strict=True):
        span = f"{_percent(10**low)} to {_percent(10 ** (low + 1 / BINS_PER_DECADE))}"
        parts.append(_bar("bar", x_of(low) + 0.5, step - 1, height, scale, span))
    parts += _shares(decades, x_of, LEFT + step)
    parts += _limit(3 / n_rows, x_of)
    label = (
        f"Histogram of the densities of {len(density)} features: {n_dead} never fire, the median "
        f"of the others is {_percent(float(np.median(alive))) if len(alive) else 'undefined'}."
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def _bar(kind, x, width, count, scale, what):
    height = count * scale
    y = HEIGHT - BOTTOM - height
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">'
        f"<title>{what}: {count} features</title></rect>"
    )


def _counts(top, scale):
    """The vertical axis: lines and numbers at round counts."""
    step = 10 ** math.floor(math.log10(top))
    step = max(1, next(step * f for f in (0.2, 0.5, 1) if top <= 5 * step * f or f == 1))
    for count in np.arange(0, top + 1, step).astype(int).tolist():
        y = HEIGHT - BOTTOM - count * scale
        yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{count:,}</text>'
    yield '<text x="0" y="12">features</text>'


def _shares(decades, x_of, x_dead):
    """The horizontal axis: powers of ten as percentages."""
    y = HEIGHT - BOTTOM + 17
    yield f'<text x="{x_dead:.1f}" y="{y}" text-anchor="middle">never</text>'
    for exponent in range(1 - decades, 1):  # the first has "never" beside it
        anchor = "end" if exponent == 0 else "middle"
        share = _percent(10.0**exponent)
        yield f'<text x="{x_of(exponent):.1f}" y="{y}" text-anchor="{anchor}">{share}</text>'
    yield (
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">'
        "share of rows on which a feature fires (log scale)</text>"
    )


def _limit(share, x_of):
    """The line left of which a rare feature and a dead one look the same."""
    if share >= 1:
        return
    x = x_of(math.log10(share))
    yield f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{HEIGHT - BOTTOM}"/>'
    yield f'<text x="{x + 4:.1f}" y="{TOP + 6}">3 rows</text>'


def _percent(share):
    return f"{float(f'{100 * share:.2g}'):.7g} %"
