"""Figures of learned representations: clusters of codes, their projection, errors, anomalies, losses."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax4dstem.fields import Tree
from jax4dstem.report.style import (
    FONT,
    calibration,
    cluster_color,
    cluster_image,
    new_figure,
    scale_bar,
    show_image,
)

MODELS = {"ae": "Autoencoder", "vae": "Variational autoencoder"}


def latent_maps(done: Tree, about: dict[str, Any], model: str) -> Figure | None:
    """Labels, reconstruction error and anomalies over the scan; projections and losses of the regions."""
    group = done["latent"].get(model)
    if group is None:
        return None
    regions = sorted(group["regions"])
    figure = new_figure(17, 9.2, MODELS[model])
    grid = figure.subplots(2, 4)
    labels = group["labels"].data
    show_image(grid[0, 0], cluster_image(labels), "Clusters of the codes")
    scale_bar(grid[0, 0], labels.shape[1], *calibration(about).scan_units)
    error = group["reconstruction_error"].data
    low, high = np.nanpercentile(error, [2, 98])
    show_image(
        grid[0, 1], error, "Reconstruction error", "variance", cmap="viridis", vmin=low, vmax=high
    )
    with np.errstate(divide="ignore"):
        unusual = -np.log10(group["anomaly_p_value"].data)
    found = int(group["anomaly"].data.sum())
    show_image(grid[0, 2], unusual, f"Unusual: {found} anomalies", "-log10 p", cmap="magma")
    y, x = np.nonzero(group["anomaly"].data)
    grid[0, 2].scatter(x, y, s=14, facecolors="none", edgecolors="cyan", linewidths=0.7)
    _losses(grid[0, 3], group, regions)
    for axes, name in zip(grid[1], regions[:4], strict=False):
        region = int(name.split("_")[1])
        chosen = done["labels"][_level_of(done, region)].data == region
        _projection(axes, group["codes"].data[chosen], labels[chosen])
        sharpness = float(group["regions"][name]["boundary_sharpness"].data)
        axes.set_title(f"Region {region}: codes, boundary sharpness {sharpness:.2f}", fontsize=FONT)
    for axes in grid[1, len(regions) :]:
        axes.axis("off")
    return figure


def _level_of(done: Tree, region: int) -> str:
    return next(name for name, field in done["labels"].items() if (field.data == region).any())


def _losses(axes: Axes, group: Tree, regions: list[str]) -> None:
    for i, name in enumerate(regions):
        history = group["regions"][name]["trained"]["history"]
        axes.plot(history["loss"].data, color=f"C{i}", label=name.replace("_", " "))
        if "validation" in history:
            axes.plot(history["validation"].data, color=f"C{i}", ls="--")
    axes.set_xlabel("epoch", fontsize=FONT - 1)
    axes.set_title("Loss (dashed: held-out blocks)", fontsize=FONT)
    axes.legend(fontsize=FONT - 2)


def _projection(axes: Axes, codes: np.ndarray, labels: np.ndarray) -> None:
    """The two principal components of the codes, one point per position."""
    centered = codes - codes.mean(axis=0)
    _, _, components = np.linalg.svd(centered, full_matrices=False)
    flat = centered @ components[:2].T
    second = flat[:, 1] if flat.shape[1] > 1 else np.zeros(len(flat))
    colors = [cluster_color(int(label)) for label in labels]
    axes.scatter(flat[:, 0], second, c=colors, s=4, linewidths=0)
    axes.set_xlabel("first principal component", fontsize=FONT - 1)
    axes.set_ylabel("second", fontsize=FONT - 1)
