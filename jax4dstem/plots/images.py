"""Figures of virtual images and of the direct beam."""

import numpy as np
from matplotlib.figure import Figure

from jax4dstem.pipeline.results import Results
from jax4dstem.plots.style import (
    SIGNED,
    columns_for,
    limit_of,
    map_panels,
    plot,
    scan_bar,
    scan_image,
    show_image,
)


@plot("images/annular_dark_field")
def virtual_images(results: Results) -> Figure:
    """Bright field, annular dark field, dose, and the two components of the center of mass.

    Args:
        results: Of a run with virtual images.

    Returns:
        The figure.

    Raises:
        InputError: The results have none.

    Example:
        >>> import numpy as np
        >>> from jax4dstem import Dataset
        >>> from jax4dstem.pipeline import STAGES, analyze_in_memory
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> figure = virtual_images(analyze_in_memory(scan, stages=STAGES[:3]))
        >>> figure.axes[0].get_title('left')[:12]
        'Bright field'
    """
    images = results.fields()["images"]
    com = images["center_of_mass"].data
    bright, inner, outer = images["radii"].data
    shape = com.shape[:2]
    figure, axes = map_panels(results, 5, shape, columns_for(shape, 3))
    for each, name, title in zip(
        axes,
        ("bright_field", "annular_dark_field", "dose"),
        (
            f"Bright field: disk of {bright:.1f} px",
            f"Annular dark field: {inner:.0f} to {outer:.0f} px",
            "Dose: all electrons",
        ),
        strict=False,
    ):
        scan_image(each, results, images[name].data, title, f"{images[name].units} per pattern")
    for i, (each, way) in enumerate(zip(axes[3:], ("y, down", "x, to the right"), strict=True)):
        limit = limit_of(com[..., i], 99)
        show_image(
            each, com[..., i], f"Center of mass in {way}", "detector pixels", cmap=SIGNED,
            vmin=-limit, vmax=limit,
        )  # fmt: skip
        scan_bar(each, results, shape[1])
    return figure


@plot("descan/measured", "center")
def direct_beam(results: Results) -> Figure:
    """Center of the direct beam over the scan, the smooth surface through it, and the rest.

    Args:
        results: Of a run.

    Returns:
        The figure.

    Raises:
        InputError: The results have no direct beam.

    Example:
        >>> import numpy as np
        >>> from jax4dstem import Dataset
        >>> from jax4dstem.pipeline import STAGES, analyze_in_memory
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> len(direct_beam(analyze_in_memory(scan, stages=STAGES[:2])).axes)
        6
    """
    tree = results.fields()
    found, shape = tree["descan"], tree["center"].data.shape[:2]
    left_out = results.left_out(shape)[..., None]
    center, smooth, measured = (
        np.where(left_out, np.nan, field.data)
        for field in (tree["center"], found["surface"], found["measured"])
    )
    figure, axes = map_panels(results, 6, shape, 3)
    for i, way in enumerate("yx"):
        surface = smooth[..., i]
        rest = measured[..., i] - surface
        limit = max(limit_of(rest, 99), 1e-3)
        own = center[..., i]
        span = {
            "cmap": "viridis",
            "vmin": float(np.nanmin(own)),
            "vmax": float(np.nanmax(own)) + 1e-9,
        }
        drawn = (
            (own, f"Center of the beam, {way}", span),
            (surface, f"Smooth surface, {way}", span),
            (rest, f"Measured minus surface, {way}", {"cmap": SIGNED, "vmin": -limit, "vmax": limit}),
        )  # fmt: skip
        for each, (image, title, options) in zip(axes[3 * i :], drawn, strict=False):
            show_image(each, image, title, "detector pixels", **options)
            scan_bar(each, results, shape[1])
    return figure
