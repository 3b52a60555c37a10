"""Strain of every position with its error bars, as all ways to measure it give it."""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeVar

import numpy as np

from jax4dstem.coordinates import rotation_period
from jax4dstem.fields import SCAN, Entry, Result, Tree, entry
from jax4dstem.lattice.basis import symmetry_order

COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
PAIR = "component other_component"  # axes of covariances


class Status(IntEnum):
    """Why a position has no strain."""

    OK = 0
    EMPTY = 1  # no counts, or pixels that are no numbers
    NO_LATTICE = 2  # no evidence for the lattice: vacuum, amorphous, or another crystal
    UNDETERMINED = 3  # the reflections on the detector do not fix the lattice
    NOT_CONVERGED = 4  # the fit left the range of the search


MEANINGS = ", ".join(f"{status.value} {status.name.lower()}" for status in Status)


@dataclass(frozen=True)
class StrainMap(Result):
    r"""Strain of every position, with its error bars.

    Tension is positive; e_xx is along x (to the right), e_yy along y (down), e_xy the tensor shear;
    theta is counter-clockwise on the screen, modulo the symmetry of the lattice. All are NaN where the
    status is not OK.

    Attributes:
        e_xx: ``(scan_y, scan_x)``.
        e_yy: The same.
        e_xy: The same.
        theta: In radians, the same shape.
        covariance: Of (e_xx, e_yy, e_xy, theta), ``(scan_y, scan_x, 4, 4)``.
        status: `Status` of every position, the same shape.
        reference: Lattice that strain is relative to: g1, g2 as rows (y, x) in px, in scan axes, undistorted.
        reference_source: Where it comes from, in words.

    Example:
        >>> import numpy as np
        >>> zero, cov = np.zeros((2, 2)), np.tile(1e-6 * np.eye(4), (2, 2, 1, 1))
        >>> strain = StrainMap(zero, zero, zero, zero, cov, zero.astype(int), np.eye(2), "given")
        >>> strain.std("e_xx")[0, 0].round(6).item()
        0.001
    """

    e_xx: np.ndarray = entry(SCAN, "1", "strain along x (to the right), tension positive")
    e_yy: np.ndarray = entry(SCAN, "1", "strain along y (down)")
    e_xy: np.ndarray = entry(SCAN, "1", "tensor shear strain")
    theta: np.ndarray = entry(
        SCAN, "rad", "rotation, counter-clockwise, modulo the lattice's symmetry"
    )
    covariance: np.ndarray = entry(f"{SCAN} {PAIR}", "1", "of (e_xx, e_yy, e_xy, theta)")
    status: np.ndarray = entry(SCAN, "", MEANINGS)
    reference: np.ndarray = entry(
        "vector yx", "px", "lattice strain is relative to: g1, g2 (y, x), in scan axes, undistorted"
    )
    reference_source: str = entry("", "", "where the reference comes from")

    def std(self, component: str) -> np.ndarray:
        """Standard deviation of a component."""
        i = COMPONENTS.index(component)
        return np.sqrt(self.covariance[..., i, i])

    @property
    def values(self) -> np.ndarray:
        """The four components, ``(scan_y, scan_x, 4)``."""
        return np.stack([getattr(self, name) for name in COMPONENTS], axis=-1)

    @property
    def ok(self) -> np.ndarray:
        """Positions that have a strain."""
        return self.status == Status.OK

    @property
    def symmetry(self) -> int:
        """Rotational symmetry of the lattice: theta is known modulo 2π over it."""
        return symmetry_order(self.reference)

    def fields(self) -> Tree:
        """All fields, and the standard deviations ``e_xx_std``, ..., which follow from the covariance."""
        tree, about = super().fields(), self.layout()
        std = {f"{name}_std": self.std(name) for name in COMPONENTS}
        return tree | {name: about[name].field(value, self) for name, value in std.items()}

    @classmethod
    def layout(cls) -> dict[str, Entry]:
        """What `fields` gives, by path."""
        own = super().layout()
        text = "standard deviation of {}"
        std = {name: replace(own[name], description=text.format(name)) for name in COMPONENTS}
        return own | {f"{name}_std": about for name, about in std.items()}

    @property
    def period(self) -> float:
        """What theta is known modulo, in radians."""
        return rotation_period(self.symmetry)

    def with_values(
        self, values: np.ndarray, covariance: np.ndarray, ok: np.ndarray
    ) -> "StrainMap":
        """The same reference with other strains; positions that are not ok lose theirs."""
        values = np.where(ok[..., None], values, np.nan)
        covariance = np.where(ok[..., None, None], covariance, np.nan)
        status = np.where(ok, Status.OK, np.where(self.ok, Status.NOT_CONVERGED, self.status))
        parts = dict(zip(COMPONENTS, np.moveaxis(values, -1, 0), strict=True))
        return replace(self, **parts, covariance=covariance, status=status.astype(np.int8))


_R = TypeVar("_R", bound="OnStrain")


class OnStrain(Result):
    """A result with a strain map, its attribute ``strain``, whose fields lie among its own and not in a group."""

    def fields(self) -> Tree:
        """All fields."""
        tree = super().fields()
        return tree.pop("strain") | tree

    @classmethod
    def layout(cls) -> dict[str, Entry]:
        """What `fields` can give, by path."""
        own = super().layout()
        return {path.removeprefix("strain/"): about for path, about in own.items()}

    @classmethod
    def from_fields(cls: type[_R], tree: Tree) -> _R:
        """The result whose fields these are.

        Raises:
            InputError: A field without default is missing.
        """
        return super().from_fields({**tree, "strain": tree})
