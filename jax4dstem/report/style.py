"""How figures look: colors of clusters, scale bars, images with color bars."""

import colorsys
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from jax4dstem.coordinates import Calibration

FONT = 11
# After Paul Tol's schemes: distinct also with impaired color vision.
PALETTE = [
    "#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377",
    "#EE7733", "#332288", "#009988", "#BBBBBB", "#663300", "#FFAABB",
]  # fmt: skip
OUTLIER = (0.0, 0.0, 0.0)


def cluster_color(cluster: int) -> tuple[float, float, float]:
    """Color of a cluster id: the palette first, then the same colors lighter; outliers are black.

    Args:
        cluster: Its id; negative for outliers.

    Returns:
        Red, green and blue, 0 to 1.

    Example:
        >>> cluster_color(-1), cluster_color(0) == cluster_color(12)
        ((0.0, 0.0, 0.0), False)
    """
    if cluster < 0:
        return OUTLIER
    red, green, blue = to_rgb(PALETTE[cluster % len(PALETTE)])
    lighter = min(cluster // len(PALETTE), 3) * 0.17
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    return colorsys.hls_to_rgb(hue, min(0.92, light + lighter), saturation)


def cluster_image(labels: np.ndarray) -> np.ndarray:
    """Label map as an image in the colors of `cluster_color`.

    Args:
        labels: Cluster ids, ``(scan_y, scan_x)``.

    Returns:
        Red, green and blue, ``(scan_y, scan_x, 3)``.

    Example:
        >>> cluster_image(np.array([[0, 1, -1]])).shape
        (1, 3, 3)
    """
    image = np.zeros((*labels.shape, 3))
    for cluster in np.unique(labels):
        image[labels == cluster] = cluster_color(int(cluster))
    return image


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """A figure in inches, laid out without overlaps."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=130)
    if title:
        figure.suptitle(title, fontsize=FONT + 2)
    return figure


def show_image(
    axes: Axes, image: np.ndarray, title: str, bar: str | None = None, **options: Any
) -> Any:
    """Draw an image without ticks; ``bar`` labels its color bar."""
    drawn = axes.imshow(image, interpolation="nearest", **options)
    axes.set_title(title, fontsize=FONT)
    axes.set_xticks([])
    axes.set_yticks([])
    if bar is not None:
        colorbar = axes.figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
        colorbar.set_label(bar, fontsize=FONT - 1)
        colorbar.ax.tick_params(labelsize=FONT - 2)
    return drawn


def scale_bar(axes: Axes, width: int, step: float, unit: str) -> None:
    """A bar of a round length, about a quarter of the image wide, at the lower left.

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
    pixels = length / step
    axes.plot(
        [0.05 * width, 0.05 * width + pixels], [0.06, 0.06], color="white", lw=4,
        transform=axes.get_xaxis_transform(), solid_capstyle="butt", path_effects=outline(),
    )  # fmt: skip
    axes.text(
        0.05 * width + pixels / 2, 0.08, f"{length:g} {unit}", color="white", ha="center",
        va="bottom", fontsize=FONT - 1, transform=axes.get_xaxis_transform(), path_effects=outline(),
    )  # fmt: skip


def outline() -> list[Any]:
    """A dark rim that keeps white marks readable on bright images."""
    return [withStroke(linewidth=5, foreground="#00000090")]


def calibration(about: dict[str, Any]) -> Calibration:
    """Calibration of the prepared patterns and the scan."""
    nan = float("nan")
    pixel, step = (
        float(about.get(name, nan)) for name in ("pattern_pixel_inv_angstrom", "scan_step_nm")
    )
    return Calibration(None if np.isnan(pixel) else pixel, None if np.isnan(step) else step)
