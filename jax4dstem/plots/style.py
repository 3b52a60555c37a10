"""How figures look: sizes in pixels of the page, fonts, panels, scale bars, color bars that are histograms."""

import functools
import textwrap
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from jax4dstem.coordinates import Calibration
from jax4dstem.errors import InputError
from jax4dstem.fields import find
from jax4dstem.pipeline.results import Results

DPI = 100  # an inch is 100 px of the page at 100 %
WIDTH = 848  # px of the page: in a window of 800 px it is 784 px, and the smallest text 11 px
TALLEST = 340  # px of an image
WIDE = 2.0  # from this width over height on fewer images lie side by side
TITLE, TEXT, SMALL = 10.5, 9.5, 8.6  # points: 14.6, 13.2 and 11.9 px at 100 %
STYLE: Any = {
    "figure.dpi": DPI,
    "font.size": TEXT,
    "axes.titlesize": TITLE,
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "figure.titlesize": TITLE + 1,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
}
LETTER = 0.53 * TITLE / 72 * DPI  # px of a letter of a title, on average
HEAD = 46  # px of a title of two lines above an image
GAP = 20  # px around a panel: half of a number below its corner
BELOW = 88  # px that the histogram or the legend below an image takes
THIN = 0.15  # rows over columns below which there is no room for a bar
NARROWEST = 200  # px that the numbers below an image need
UNDER = 56  # px that a color bar below an image takes
MISSING = "#d0d0d0"  # positions without a value
# In a map of labels, none of which is nearly white: positions that nothing counts.
LEFT_OUT = "#ffffff"
LINE, WARM, INK = "#4477AA", "#B8385A", "#444444"
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # no small exponents
SIGNED, AMOUNT = "RdBu_r", "viridis"

_P = ParamSpec("_P")
Plot = Callable[Concatenate[Results, _P], Figure]
NEEDS: dict[
    str, tuple[str, ...]
] = {}  # paths of the results that a figure is drawn from, by its name


def plot(*needs: str) -> Callable[[Plot[_P]], Plot[_P]]:
    """Make a figure of a drawing: it has our style, and says which part of the results is missing."""

    def of(draw: Plot[_P]) -> Plot[_P]:
        NEEDS[draw.__name__] = needs

        @functools.wraps(draw)
        def drawn(results: Results, *args: _P.args, **options: _P.kwargs) -> Figure:
            missing = [path for path in needs if find(results.fields(), path) is None]
            if missing:
                raise InputError(f"{draw.__name__}: the results have no {missing[0]}")
            with matplotlib.rc_context(STYLE):
                return draw(results, *args, **options)

        return drawn

    return of


def calibration_of(results: Results) -> Calibration:
    """Of the prepared patterns and the scan."""
    about = results.about
    pixel, step = (
        float(about.get(name, np.nan)) for name in ("pattern_pixel_inv_angstrom", "scan_step_nm")
    )
    return Calibration(None if np.isnan(pixel) else pixel, None if np.isnan(step) else step)


def panels(
    number: int, shape: tuple[float, ...], columns: int, beside: int = 0, below: int = UNDER
) -> tuple[Figure, list[Axes]]:
    """A figure of images of one shape, as wide as the page or narrower, without large gaps.

    Args:
        number: Of images.
        shape: Of each, rows and columns.
        columns: Images side by side.
        beside: px at the right of every image, for a legend.
        below: px below every image, for its color bar, histogram or legend.

    Returns:
        The figure and its axes, row by row.
    """
    aspect = float(np.clip(shape[1] / shape[0], 0.25, 4))
    columns = min(columns, number)
    rows = -(-number // columns)
    tall = min((WIDTH / columns - beside - 2 * GAP) / aspect, TALLEST)
    cell = max(tall * aspect + beside + 2 * GAP, min(280, WIDTH / columns))
    step = HEAD + tall + below + GAP
    width, height = columns * cell, rows * step
    figure = Figure(figsize=(width / DPI, height / DPI))
    found = []
    for n in range(number):
        row, column = divmod(n, columns)
        left = column * cell + GAP
        bottom = height - row * step - HEAD - tall
        place = (left / width, bottom / height, tall * aspect / width, tall / height)
        axes = figure.add_axes(place, label=str(n))
        axes.set_anchor("NW")
        found.append(axes)
    return figure, found


def tallness(results: Results) -> float:
    """Height of a scan position over its width: 1 where the steps between rows and columns are alike or not known."""
    (down, across), _ = results.calibration.scan_steps
    return down / across


def map_panels(
    results: Results,
    number: int,
    shape: tuple[int, ...],
    columns: int,
    beside: int = 0,
    below: int = UNDER,
) -> tuple[Figure, list[Axes]]:
    """`panels` of maps of a scan, whose positions are as tall and wide as its steps say."""
    tall = tallness(results)
    figure, found = panels(number, (shape[0] * tall, shape[1]), columns, beside, below)
    for axes in found:
        axes.set_aspect(tall)
    return figure, found


def new_figure(width: float, height: float) -> Figure:
    """A figure in px of the page, laid out without overlaps."""
    return Figure(figsize=(width / DPI, height / DPI), layout="constrained")


def figure_of(axes: Axes) -> Figure:
    """The figure that axes lie in."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def size_of(axes: Axes) -> tuple[float, float]:
    """Width and height of axes in px, as they were placed."""
    figure = figure_of(axes)
    width, height = axes.get_position().size * figure.get_size_inches() * DPI
    return float(width), float(height)


def set_title(axes: Axes, title: str) -> None:
    """A title from the left edge of its axes up to where the next ones begin; a long one goes on in a second line."""
    figure = figure_of(axes)
    own = axes.get_position()
    rows = [each.get_position() for each in figure.axes]
    right = [p.x0 for p in rows if p.x0 >= own.x1 - 1e-6 and p.y0 < own.y1 and p.y1 > own.y0]
    room = (min(right, default=1.0) - own.x0) * figure.get_size_inches()[0] * DPI
    letters = max(14, int(room / LETTER))
    axes.set_title("\n".join(textwrap.wrap(title, letters, break_long_words=False)))


def show_image(
    axes: Axes, image: np.ndarray, title: str, bar: str | None = None, **options: Any
) -> Any:
    """Draw an image without ticks; ``bar`` labels its color bar. Values that are missing are gray."""
    axes.set_facecolor(MISSING)
    shape = axes.get_aspect()
    options = {"aspect": "equal" if shape == "auto" else shape} | options
    drawn = axes.imshow(image, interpolation="nearest", **options)
    if title:
        set_title(axes, title)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color="#888888", linewidth=0.6)
    if bar is None:
        return drawn
    figure = figure_of(axes)
    place: dict[str, Any] = {"ax": axes, "fraction": 0.046, "pad": 0.03}
    if figure.get_layout_engine() is None:  # a panel, with room below it
        cax = _inset_below(axes, 18, 11)
        place = {"cax": cax, "orientation": "horizontal"}
    colorbar = figure.colorbar(drawn, label=bar, **place)
    if isinstance(drawn.norm, LogNorm):
        colorbar.formatter = PLAIN
        colorbar.minorformatter = NullFormatter()
    else:
        colorbar.locator = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
    colorbar.update_ticks()
    return drawn


def _inset_below(axes: Axes, lower: float, height: float) -> Axes:
    """Axes below an image, so many px below its edge, as wide as it or as numbers need."""
    wide, tall = size_of(axes)
    return axes.inset_axes((0, -lower / tall, max(1, NARROWEST / wide), height / tall))


def show_values(
    axes: Axes, image: np.ndarray, title: str, label: str, cmap: str, low: float, high: float
) -> None:
    """An image of numbers over their histogram, whose bars have the image's colors.

    Args:
        axes: Of a figure made by `panels` with room below.
        image: ``(scan_y, scan_x)``; NaN is drawn gray.
        title: Of the image.
        label: Unit of the values, in words.
        cmap: Name of the color map.
        low: First value of the colors.
        high: Last value of the colors.
    """
    show_image(axes, image, title, cmap=cmap, vmin=low, vmax=high)
    below = _inset_below(axes, 54, 46)
    finite = image[np.isfinite(image)]
    counts, edges = np.histogram(np.clip(finite, low, high), bins=48, range=(low, high))
    shades = colormaps[cmap](np.linspace(0, 1, len(counts)))
    below.bar(
        edges[:-1], counts, np.diff(edges), align="edge", color=shades, edgecolor=INK, linewidth=0.3
    )
    below.set(xlim=(low, high), yticks=[], xlabel=label)
    below.locator_params(axis="x", nbins=5)
    below.spines["left"].set_visible(False)
    if finite.size:
        middle = float(np.median(finite))
        below.axvline(middle, color="black", linewidth=1.2)


def limit_of(values: np.ndarray, share: float = 98.0) -> float:
    """Size of the values but for the largest; 1e-6 at least, 1 where there are none."""
    finite = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(finite, share)), 1e-6) if finite.size else 1.0


def log_norm(image: np.ndarray) -> LogNorm:
    """Logarithmic colors between a low percentile of the positive values and the maximum."""
    positive = image[np.isfinite(image) & (image > 0)]
    if not positive.size:
        return LogNorm(0.1, 1)
    low = float(np.percentile(positive, 2))
    return LogNorm(low, max(float(positive.max()), low * 1.01))


def scale_bar(axes: Axes, width: int, step: float, unit: str) -> None:
    """A bar of a round length, about a quarter of the image wide, at the lower left, on a dark ground.

    Args:
        axes: Axes with the image.
        width: Image width in pixels.
        step: Length of one pixel.
        unit: Its unit.

    Example:
        >>> axes = Figure().subplots()
        >>> scale_bar(axes, 100, 8.0, "nm")
        >>> axes.texts[0].get_text()
        '200 nm'
    """
    target = max(width * step / 4, step)
    power = 10.0 ** np.floor(np.log10(target))
    length = max(m * power for m in (1, 2, 5) if m * power <= target * (1 + 1e-9))
    figure = figure_of(axes)

    def above(px: float) -> Any:
        """So far above the lower edge, whatever the size of the image."""
        return axes.get_xaxis_transform() + ScaledTranslation(0, px / DPI, figure.dpi_scale_trans)

    left = 0.04 * width - 0.5
    axes.text(
        left, 0, f"{length:g} {unit}", color="white", ha="left", va="bottom", fontsize=SMALL,
        transform=above(17), zorder=5,
        bbox={"facecolor": "black", "alpha": 0.65, "edgecolor": "none", "pad": 2},
    )  # fmt: skip
    for color, thick in (("black", 5.5), ("white", 3)):
        axes.plot(
            [left, left + length / step], [0, 0], color=color, linewidth=thick, transform=above(9),
            solid_capstyle="butt", zorder=4,
        )  # fmt: skip


def scan_bar(axes: Axes, results: Results, width: int) -> None:
    """The scale bar of a map of the scan, in positions where the step is not known; of a line of positions its length in words."""
    step, unit = calibration_of(results).scan_units
    rows = len(np.asarray(axes.images[0].get_array())) if axes.images else width
    if rows * tallness(results) < THIN * width:
        axes.set_xlabel(f"{width * step:.4g} {unit}")
    else:
        scale_bar(axes, width, step, unit)


def scan_image(
    axes: Axes, results: Results, image: np.ndarray, title: str, bar: str | None
) -> None:
    """An image over the scan with a scale bar; its grays leave out the extreme half percent."""
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
    show_image(axes, image, title, bar, cmap="gray", vmin=low, vmax=max(high, low + 1e-12))
    scan_bar(axes, results, image.shape[1])


def columns_for(shape: tuple[int, ...], most: int) -> int:
    """Images side by side: fewer of wide scans, so that each is seen well."""
    return max(1, min(most, round(most * WIDE * shape[0] / shape[1])))
