"""Figures of what strain can be trusted: where there is a lattice, how well the model fits, the ways side by side."""

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from jax4dstem.errors import InputError
from jax4dstem.fields import Tree
from jax4dstem.pipeline.results import Results
from jax4dstem.plots.domains import left_out_entry, legend_on
from jax4dstem.plots.strain import COMPONENTS, WAYS, in_percent, strain_of, ways_of
from jax4dstem.plots.style import (
    AMOUNT,
    BELOW,
    LEFT_OUT,
    LINE,
    MISSING,
    SIGNED,
    columns_for,
    limit_of,
    map_panels,
    plot,
    scan_bar,
    show_image,
    show_values,
)
from jax4dstem.strain import Status

DISAGREE = 3.0  # standard deviations
# What is well is quiet; no lattice has the gray of missing values, what went wrong is bright.
STATUS_COLORS = {
    Status.OK: LINE,
    Status.EMPTY: "#000000",
    Status.NO_LATTICE: MISSING,
    Status.UNDETERMINED: "#DDAA33",
    Status.NOT_CONVERGED: "#BB3355",
}
STATUS_WORDS = {
    Status.OK: "strain",
    Status.EMPTY: "no counts",
    Status.NO_LATTICE: "no lattice",
    Status.UNDETERMINED: "undetermined",
    Status.NOT_CONVERGED: "unsettled",
}
POOR = 2.0  # chi-squared per pixel: the model then misses as much as the noise scatters


@plot("strain/lattice/status", "strain/lattice/score", "strain/lattice/dispersion")
def strain_status(results: Results) -> Figure:
    """Which positions have strain, the evidence for their lattice, and how well the model fits them.

    Chi-squared per pixel is 1 where the counts scatter about the model as the noise does, 2 where the model misses as much again:
    disks of another shape, a second crystal, structure in the disks.

    Args:
        results: Of a run with strain.

    Returns:
        The figure.

    Raises:
        InputError: The results have no strain.

    Example:
        >>> strain_status(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: strain_status: the results have no strain/lattice/status
    """
    group = results.fields()["strain"]["lattice"]
    status = group["status"].data
    shape = status.shape
    figure, axes = map_panels(results, 3, shape, columns_for(shape, 3), below=BELOW)
    numbers, left_out = [int(s) for s in Status], results.left_out(shape)
    show_image(
        axes[0], np.where(left_out, np.nan, status), "Where there is strain", interpolation_stage="data",
        cmap=ListedColormap([STATUS_COLORS[s] for s in Status]),
        norm=BoundaryNorm(np.arange(len(numbers) + 1) - 0.5, len(numbers)),
    )  # fmt: skip
    axes[0].set_facecolor(LEFT_OUT)
    scan_bar(axes[0], results, shape[1])
    counted = status[~left_out]
    entries = [
        (STATUS_COLORS[s], f"{STATUS_WORDS[s]}: {100 * (counted == s).mean():.1f} %")
        for s in Status
        if (counted == s).any()
    ]
    legend_on(axes[0], entries + left_out_entry(left_out), below=True)
    score, chi = (np.where(left_out, np.nan, group[name].data) for name in ("score", "dispersion"))
    top = limit_of(score)
    show_values(axes[1], score, "Evidence for the lattice", "noise units", AMOUNT, 0, top)
    chi_top = max(POOR, limit_of(chi))
    label = "1: noise alone; 2: misfit as large"
    show_values(axes[2], chi, "χ² per pixel around the disks", label, "cividis", 0, chi_top)
    return figure


@plot("strain")
def strain_consensus(results: Results) -> Figure:
    """Strain along x and rotation by other ways, and where they differ from single patterns by more than three error bars.

    Args:
        results: Of a run with strain in two ways or more.

    Returns:
        The figure.

    Raises:
        InputError: The results have one way at most.

    Example:
        >>> strain_consensus(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: strain_consensus: the results have no strain
    """
    ways = ways_of(results)
    if len(ways) < 2 or "lattice" not in ways:
        raise InputError("strain_consensus: the results have strain in one way at most")
    ways.remove("lattice")
    single = strain_of(results, "lattice")
    shape, columns = single["e_xx"].data.shape, len(ways)
    figure, axes = map_panels(results, 4 * columns, shape, columns)
    for row, component in enumerate(("e_xx", "theta")):
        limit = limit_of(in_percent(single[component].data, component)[0])
        for column, way in enumerate(ways):
            group = strain_of(results, way)
            values, unit = in_percent(group[component].data, component)
            upper, lower = (axes[(2 * row + i) * columns + column] for i in (0, 1))
            title = f"{COMPONENTS[component].rpartition(' ')[2]}: {WAYS[way]}"
            bar = unit.partition(",")[0]
            show_image(upper, values, title, bar, cmap=SIGNED, vmin=-limit, vmax=limit)
            gap = gap_in_bars(single, group, component)
            known = gap[np.isfinite(gap)]
            far = 100 * np.count_nonzero(np.abs(known) > DISAGREE) / max(known.size, 1)
            title = f"{far:.1f} % differ by more than {DISAGREE:.0f} error bars"
            span = {"vmin": -2 * DISAGREE, "vmax": 2 * DISAGREE}
            label = "single minus this, in error bars"
            show_image(lower, gap, title, label, cmap=SIGNED, **span)
    scan_bar(axes[0], results, shape[1])
    return figure


def gap_in_bars(ours: Tree, theirs: Tree, component: str) -> np.ndarray:
    """Difference in units of the larger error bar, which neither can be blamed to exceed alone."""
    error = np.maximum(ours[f"{component}_std"].data, theirs[f"{component}_std"].data)
    return (ours[component].data - theirs[component].data) / error
