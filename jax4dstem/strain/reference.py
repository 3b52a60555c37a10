"""What strain is relative to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jax4dstem.coordinates import Calibration
from jax4dstem.errors import InputError
from jax4dstem.lattice.cell import zone_lattice


@dataclass(frozen=True, eq=False)
class StrainReference:
    """The lattice that strain is relative to: given, or the median of measured ones.

    Made by `median`, `region`, `rectangle`, `point`, `domain`, `vectors` or `crystal`.

    Attributes:
        lattice: g1, g2 as rows (y, x) in px, on the detector; None for a median.
        among: Boolean ``(scan_y, scan_x)``, positions that the median is taken over; None for all.
        source: Where it comes from, in words.
        further: Given lattices of other crystals in the scan, made by `several`.

    Example:
        >>> StrainReference.vectors((0, 28), (-24, 14)).lattice.tolist()
        [[0.0, 28.0], [-24.0, 14.0]]
        >>> int(StrainReference.rectangle((4, 6), (0, 2, 1, 5)).among.sum())
        8
    """

    lattice: np.ndarray | None
    among: np.ndarray | None
    source: str
    further: tuple[StrainReference, ...] = ()

    @classmethod
    def several(cls, references: Sequence[StrainReference]) -> StrainReference:
        """Lattices of several crystals in one scan: strain is relative to the one that a position shows.

        Args:
            references: Given lattices, one or more.

        Raises:
            InputError: One of them is a median.

        Example:
            >>> square, hexagonal = (20, 0), (17.3, 10)
            >>> both = StrainReference.several([StrainReference.vectors(square, (0, 20)), StrainReference.vectors(hexagonal, (0, 20))])
            >>> len(both.lattices), both.of(1).lattice.tolist(), both.of(2).source
            (2, [[17.3, 10.0], [0.0, 20.0]], 'median of all fitted positions')
        """
        if any(each.lattice is None for each in references):
            raise InputError("of several references each must be a given lattice")
        first, *further = references
        return replace(first, further=tuple(further))

    @property
    def lattices(self) -> tuple[np.ndarray, ...]:
        """All given lattices."""
        every = (self, *self.further)
        return tuple(each.lattice for each in every if each.lattice is not None)

    def of(self, number: int) -> StrainReference:
        """The reference of one of the scan's lattices: a given one, or its own median.

        Args:
            number: Of the lattice; the given ones come first.
        """
        every = (replace(self, further=()), *self.further)
        if number < len(every):
            return every[number]
        median = StrainReference.median()
        return replace(
            median,
            among=self.among,
            source=self.source if self.among is not None else median.source,
        )

    @classmethod
    def median(cls) -> StrainReference:
        """The median of all positions that have a lattice."""
        return cls(None, None, "median of all fitted positions")

    @classmethod
    def region(cls, mask: np.ndarray) -> StrainReference:
        """The median where a mask ``(scan_y, scan_x)`` is true."""
        return cls(None, np.asarray(mask, bool), "median of the region")

    @classmethod
    def rectangle(
        cls, scan_shape: tuple[int, int], region: tuple[int, int, int, int]
    ) -> StrainReference:
        """The median of the positions in rows y0 to y1 and columns x0 to x1, without the last ones.

        Args:
            scan_shape: Of the scan.
            region: (y0, y1, x0, x1).

        Raises:
            InputError: The rectangle is empty or leaves the scan.
        """
        y0, y1, x0, x1 = region
        height, width = scan_shape
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise InputError(
                f"strain.region rows {y0}:{y1}, columns {x0}:{x1} is empty or outside the "
                f"{height} x {width} scan"
            )
        mask = np.zeros((height, width), bool)
        mask[y0:y1, x0:x1] = True
        return cls.region(mask)

    @classmethod
    def point(cls, scan_shape: tuple[int, int], at: tuple[int, int]) -> StrainReference:
        """The lattice of one position.

        Args:
            scan_shape: Of the scan.
            at: Its row and column, (y, x).

        Raises:
            InputError: The position is outside the scan.

        Example:
            >>> point = StrainReference.point((4, 6), (1, 2))
            >>> np.argwhere(point.among).tolist(), point.source
            ([[1, 2]], 'position at row 1, column 2')
        """
        y, x = at
        one = cls.rectangle(scan_shape, (y, y + 1, x, x + 1))
        return replace(one, source=f"position at row {y}, column {x}")

    @classmethod
    def domain(cls, labels: np.ndarray | None, number: int) -> StrainReference:
        """The median of the positions of one domain.

        Args:
            labels: Map of domains, ``(scan_y, scan_x)``; None where there is none.
            number: Of the domain.

        Raises:
            InputError: There is no such domain.
        """
        if labels is None or number not in labels:
            raise InputError(
                f"strain.cluster {number} is no cluster of level 1; "
                "clusters are found by `jax4dstem analyze`"
            )
        return cls(None, labels == number, f"median of cluster {number}")

    @classmethod
    def vectors(
        cls, g1: Sequence[float] | np.ndarray, g2: Sequence[float] | np.ndarray
    ) -> StrainReference:
        """A given lattice.

        Args:
            g1: (y, x) in px of the detector.
            g2: The same.

        Raises:
            InputError: The two span no lattice.
        """
        lattice = np.array([g1, g2], np.float64)
        if abs(np.linalg.det(lattice)) < 1e-6 * np.prod(np.linalg.norm(lattice, axis=1)):
            raise InputError(f"the reference vectors {lattice.tolist()} span no lattice")
        return cls(lattice, None, "given lattice")

    @classmethod
    def crystal(
        cls, cif: str | Path, zone: tuple[int, int, int], calibration: Calibration
    ) -> StrainReference:
        """The lattice of a crystal along a zone axis; see `zone_lattice`.

        Args:
            cif: File with the crystal.
            zone: Direction [uvw] along the beam.
            calibration: Of the detector; the crystal appears on it as that distorts it.

        Raises:
            InputError: The file cannot be used, the zone shows no lattice, or the pixel is not known.
        """
        pixel = calibration.pixel_inv_angstrom
        if pixel is None:
            raise InputError("strain.cif needs the detector's calibration: --pixel in 1/Å")
        along = " ".join(map(str, zone))
        lattice = zone_lattice(cif, zone, pixel) @ calibration.to_detector
        return cls(lattice, None, f"lattice of {Path(cif).name} along [{along}]")

    def seen_through(self, to_scan_axes: np.ndarray) -> StrainReference:
        """The same in scan axes, undistorted.

        Args:
            to_scan_axes: From the detector, ``(2, 2)``; see `Calibration`.
        """
        if self.lattice is None:
            return self
        further = tuple(each.seen_through(to_scan_axes) for each in self.further)
        return replace(self, lattice=self.lattice @ to_scan_axes, further=further)

    def check_fits(self, scan_shape: tuple[int, ...]) -> None:
        """Raise InputError where the region is that of another scan."""
        if self.among is not None and self.among.shape != scan_shape:
            raise InputError(
                f"the reference region has the shape {self.among.shape}, the scan {scan_shape}"
            )

    def in_blocks(self, size: int, shape: tuple[int, int]) -> StrainReference:
        """The same for sums of ``size`` x ``size`` positions, a map of ``shape``: what the middle of a block is."""
        if self.among is None:
            return self
        middles = self.among[size // 2 :: size, size // 2 :: size][: shape[0], : shape[1]]
        return StrainReference(None, middles, self.source)
