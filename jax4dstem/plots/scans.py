"""What a scan looks like before it is analyzed."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from jax4dstem.beam import preview_scan
from jax4dstem.dataset import Dataset

SIZE = 9.0, 4.2  # inches: as wide as a notebook's page


def scan_overview(scan: Dataset) -> Figure:
    """Mean pattern (logarithmic) and dark field of a scan; `Dataset.plot` is this.

    Args:
        scan: The patterns, which are read once.

    Returns:
        The figure.

    Raises:
        InputError: There are no counts.

    Example:
        >>> counts = np.random.default_rng(0).poisson(1.0, (3, 4, 32, 32))
        >>> counts[:, :, 14:18, 13:17] += 50
        >>> [axes.get_title() for axes in scan_overview(Dataset.from_array(counts)).axes[:2]]
        ['mean of 12 patterns, log', 'dark field']
    """
    seen = preview_scan(scan)
    step, pixel = scan.calibration.in_words
    figure = Figure(figsize=SIZE, layout="constrained", dpi=100)
    left, right = figure.subplots(1, 2)
    positive = seen.mean[seen.mean > 0]
    low, high = np.percentile(positive, 2), positive.max()
    norm = LogNorm(low, max(high, 1.01 * low), clip=True)  # pixels without counts are black
    shown = left.imshow(np.maximum(seen.mean, low), cmap="magma", norm=norm)
    y, x = seen.center.tolist()
    left.add_patch(Circle((x, y), seen.inner, fill=False, ec="white", ls="--"))
    left.set(title=f"mean of {seen.n_mean} patterns, log", xlabel=f"px of {pixel}", ylabel="px")
    figure.colorbar(shown, ax=left, label="counts", fraction=0.046)
    low, high = np.percentile(seen.dark_field, [0.5, 99.5])
    (down, across), _ = scan.calibration.scan_steps
    shown = right.imshow(seen.dark_field, cmap="gray", vmin=low, vmax=high, aspect=down / across)
    right.set(title="dark field", xlabel=f"positions of {step}", ylabel="positions")
    figure.colorbar(shown, ax=right, label="counts outside of the circle", fraction=0.046)
    return figure
