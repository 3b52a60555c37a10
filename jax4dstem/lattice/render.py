"""The forward model: what counts a lattice of disks on a radial background leads one to expect."""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp

from jax4dstem.coordinates import radius_from
from jax4dstem.lattice.disks import draw_disks, lattice_positions
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.probe import Probe
from jax4dstem.typing import Array, Float, Point


@runtime_checkable
class Disks(Protocol):
    """What all disks of a scan share: `LatticeModel` and the simulator's `Optics` have it."""

    @property
    def indices(self) -> Any:
        """Reflections (h, k), ``(n, 2)``."""
        ...

    @property
    def probe(self) -> Probe:
        """What one of them looks like."""
        ...


def render(
    shape: tuple[int, int],
    center: Point,
    distortion: Float[Array, "2 2"],
    intensities: Float[Array, " n"],
    model: LatticeModel,
    patch: int,
    textures: Float[Array, "n modes"] | None = None,
) -> Float[Array, "det_y det_x"]:
    r"""Expected share of the electrons in every pixel of one pattern.

    .. math::
        \lambda(r) = \sum_j \frac{I_j}{A} \, d(r - r_j) \Bigl(1 + \sum_m t_{jm} z_m(r - r_j)\Bigr) + \beta(|r - c|),
        \qquad r_j = c + (h_j, k_j)\, G

    with the disks d of the model's probe, of area A, and the radial background β of the model. `FitLattice` evaluates the same disks
    and textures in patches around the reflections, with a background whose height is free there.

    Args:
        shape: ``(det_y, det_x)``.
        center: c, of the direct beam, (y, x) in px.
        distortion: A of the lattice.
        intensities: I, share of the electrons in each disk.
        model: Shared by the scan.
        patch: Side in px of the square that a disk is drawn in; see `patch_side`.
        textures: t, coefficients of `disk_textures`; None for flat disks.

    Returns:
        λ; times the dose, the expected counts.

    Example:
        >>> import numpy as np
        >>> from jax4dstem.lattice.model import starting_model
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1]]), 3.0)
        >>> dark = model._replace(background=jnp.zeros(2))
        >>> share = render((32, 40), jnp.array([15.0, 15.5]), jnp.eye(2), jnp.array([0.7, 0.3]), dark, 15)
        >>> round(float(share.sum()), 3), round(float(share[:, 22:].sum()), 3)
        (1.0, 0.3)
    """
    vectors = model.distorted(distortion)
    disks = render_disks(shape, center, vectors, intensities, model, patch, textures)
    return disks + interpolate_profile(model.background, radius_from(center, shape))


def render_disks(
    shape: tuple[int, int],
    center: Point,
    vectors: Float[Array, "*lattices 2 2"],
    intensities: Float[Array, "*lattices n"],
    disks: Disks,
    patch: int,
    textures: Float[Array, "n modes"] | None = None,
) -> Float[Array, "det_y det_x"]:
    """Sum of the disks of one or several lattices, each with the given sum; arguments as for `render`."""
    positions = lattice_positions(center, vectors, disks.indices)
    return draw_disks(
        shape, positions.reshape(-1, 2), intensities.reshape(-1), disks.probe, patch, textures
    )


def interpolate_profile(
    profile: Float[Array, " radii"], distance: Float[Array, "..."]
) -> Float[Array, "..."]:
    """A profile at 0, 1, 2... px, linear between and constant beyond."""
    last = profile.shape[0] - 1
    lower = jnp.clip(jnp.floor(distance), 0, last - 1)
    fraction = jnp.clip(distance - lower, 0.0, 1.0)
    index = lower.astype(int)
    return profile[index] * (1 - fraction) + profile[index + 1] * fraction
