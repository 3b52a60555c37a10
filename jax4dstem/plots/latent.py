"""Figures of learned representations: clusters of codes, their projection, errors, anomalies, losses."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax4dstem.errors import InputError
from jax4dstem.fields import Tree
from jax4dstem.pipeline.results import Results
from jax4dstem.plots.colors import label_color, label_image
from jax4dstem.plots.style import AMOUNT, WIDTH, new_figure, plot, scan_bar, show_image, tallness

MODELS = {"ae": "autoencoder", "vae": "variational autoencoder"}
MOST_REGIONS = 6


@plot("latent", "labels")
def learned_codes(results: Results, model: str = "ae") -> Figure:
    """Clusters of the codes, reconstruction error and anomalies over the scan; losses, and codes of the regions.

    Args:
        results: Of a run with learned representations.
        model: ``"ae"`` or ``"vae"``.

    Returns:
        The figure.

    Raises:
        InputError: The results have no such model.

    Example:
        >>> learned_codes(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: learned_codes: the results have no latent
    """
    tree = results.fields()
    group = tree["latent"].get(model)
    if group is None:
        raise InputError(f"learned_codes: the results have no {MODELS.get(model, model)}")
    regions = sorted(group["regions"])
    shown = regions[:MOST_REGIONS]
    rows = -(-len(shown) // 3)
    figure = new_figure(WIDTH, 560 + 280 * rows)
    grid = figure.subplots(2 + rows, 3)
    labels = group["labels"].data
    for axes in grid[0]:
        axes.set_aspect(tallness(results))
    image = label_image(labels, left_out=results.left_out(labels.shape))
    show_image(grid[0, 0], image, "Clusters of the codes")
    scan_bar(grid[0, 0], results, labels.shape[1])
    error = group["reconstruction_error"].data
    low, high = np.nanpercentile(error, [2, 98])
    show_image(
        grid[0, 1], error, "Reconstruction error", "variance", cmap=AMOUNT, vmin=low, vmax=high
    )
    with np.errstate(divide="ignore"):
        unusual = -np.log10(group["anomaly_p_value"].data)
    found = int(group["anomaly"].data.sum())
    title = f"Unusual: {found} anomalies, circled"
    show_image(grid[0, 2], unusual, title, "negative logarithm of p", cmap="magma")
    y, x = np.nonzero(group["anomaly"].data)
    grid[0, 2].scatter(x, y, s=14, facecolors="none", edgecolors="cyan", linewidths=0.7)
    for axes in grid[1]:
        axes.remove()
    _losses(figure.add_subplot(grid[1, 0].get_gridspec()[1, :]), group, regions)
    for axes, name in zip(grid[2:].ravel(), shown, strict=False):
        region = int(name.split("_")[1])
        chosen = tree["labels"][_level_of(tree, region)].data == region
        _projection(axes, group["codes"].data[chosen], labels[chosen])
        sharpness = float(group["regions"][name]["boundary_sharpness"].data)
        axes.set_title(f"Region {region}: boundary sharpness {sharpness:.2f}")
    for axes in grid[2:].ravel()[len(shown) :]:
        axes.remove()
    return figure


def _level_of(tree: Tree, region: int) -> str:
    levels = ((n, f) for n, f in tree["labels"].items() if n.startswith("level_"))
    return next(name for name, field in levels if (field.data == region).any())


def _losses(axes: Axes, group: Tree, regions: list[str]) -> None:
    for i, name in enumerate(regions):
        history = group["regions"][name]["trained"]["history"]
        axes.plot(history["loss"].data, color=label_color(i), label=name.replace("_", " "))
        if "validation" in history:
            axes.plot(history["validation"].data, color=label_color(i), linestyle="--")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.set_title("Loss (dashed: held-out blocks)")
    axes.legend(loc="best")


def _projection(axes: Axes, codes: np.ndarray, labels: np.ndarray) -> None:
    """The two principal components of the codes, one point per position."""
    centered = codes - codes.mean(axis=0)
    _, _, components = np.linalg.svd(centered, full_matrices=False)
    flat = centered @ components[:2].T
    second = flat[:, 1] if flat.shape[1] > 1 else np.zeros(len(flat))
    colors = [label_color(int(label)) for label in labels]
    axes.scatter(flat[:, 0], second, c=colors, s=4, linewidths=0)
    axes.set(xlabel="first component of the codes", ylabel="second")
