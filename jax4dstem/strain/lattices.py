"""Several lattices in one scan: which one every position shows, how sure that is, and what each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from scipy.special import logsumexp

from jax4dstem.fields import SCAN, Result, dims_of, entry
from jax4dstem.lattice.basis import MEDIAN, cells_of, symmetry_order

_R = TypeVar("_R", bound=Result)

ROUNDS = 5  # of choosing by the spread of strain and measuring it: a few settle
WIDEST = 0.03  # spread of strain to begin with: half of what counts as the same shape
NARROWEST = 1e-4  # spread of strain, far below what makes a difference


@dataclass(frozen=True)
class LatticeTable(Result):
    """The lattices of a scan, one row each.

    Attributes:
        reference: Lattice that strain is relative to: g1, g2 as rows (y, x) in px, in scan axes, ``(n, 2, 2)``.
        a: Length of the first basis vector of the cell in real space, median over its positions, ``(n,)``.
        b: Of the second.
        gamma: Angle between them in degrees.
        a_std: Standard error of that median, by the scatter of the positions; that of the calibration is not contained.
        b_std: The same.
        gamma_std: The same.
        symmetry: Order of the lattice's rotations: 6, 4 or 2.
        share: Of the positions that have a pattern.
        unit: Of the lengths: "Å" where the detector's pixel is known, else "1/px".
    """

    reference: np.ndarray = entry(
        "lattice vector yx", "px", "lattice that strain is relative to: g1, g2 (y, x)"
    )
    a: np.ndarray = entry("lattice", "{unit}", "length of the first basis vector of the cell")
    b: np.ndarray = entry("lattice", "{unit}", "length of the second")
    gamma: np.ndarray = entry("lattice", "deg", "angle between them")
    a_std: np.ndarray = entry("lattice", "{unit}", "standard error of a, by its scatter")
    b_std: np.ndarray = entry("lattice", "{unit}", "standard error of b, by its scatter")
    gamma_std: np.ndarray = entry("lattice", "deg", "standard error of gamma, by its scatter")
    symmetry: np.ndarray = entry("lattice", "", "order of the lattice's rotations")
    share: np.ndarray = entry("lattice", "1", "of the positions that have a pattern")
    unit: str = "1/px"

    def __len__(self) -> int:
        """Number of lattices."""
        return len(self.a)


def lattice_table(
    lattices: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    pixel: float | None,
    positions: int,
) -> LatticeTable:
    """What the lattices of a scan are.

    Args:
        lattices: For each the lattices of its positions, g1, g2 as rows (y, x) in px, NaN elsewhere, ``(scan_y, scan_x, 2, 2)``.
        references: What strain is relative to, ``(2, 2)`` each.
        pixel: Of the detector in 1/Å; None where it is not known.
        positions: That have a pattern; lattices have shares of these.

    Example:
        >>> square = np.full((2, 2, 2, 2), np.nan)
        >>> square[:, 0] = np.diag([20.0, 20.0])
        >>> table = lattice_table([square], [np.diag([20.0, 20.0])], 0.01, 4)
        >>> table.a.round(2).tolist(), table.gamma.tolist(), table.share.tolist(), table.unit
        ([5.0], [90.0], [0.5], 'Å')
    """
    cells = [cells_of(lattice[np.isfinite(lattice).all(axis=(-1, -2))]) for lattice in lattices]
    length = np.array([1 / (pixel or 1.0)] * 2 + [1.0])
    typical = np.array([_median(cell) for cell in cells]) * length
    values, errors = typical[:, 0], typical[:, 1]
    return LatticeTable(
        reference=np.array(references, np.float64),
        **dict(zip(("a", "b", "gamma"), values.T, strict=True)),
        **dict(zip(("a_std", "b_std", "gamma_std"), errors.T, strict=True)),
        symmetry=np.array([symmetry_order(each) for each in references], np.int32),
        share=np.array([len(cell) for cell in cells]) / max(positions, 1),
        unit="1/px" if pixel is None else "Å",
    )


def _median(cells: np.ndarray) -> np.ndarray:
    """Median of the columns, and its standard error; NaN where there is nothing."""
    if not len(cells):
        return np.full((2, 3), np.nan)
    error = MEDIAN * cells.std(axis=0) / np.sqrt(len(cells))
    return np.array([np.median(cells, axis=0), error])


def choose_lattice(evidence: np.ndarray, strain: np.ndarray) -> np.ndarray:
    r"""Probability of every lattice at every position.

    .. math:: P_k \propto p_k \, \exp\left(-\frac{|e_k|^2}{2 s_k^2}\right) s_k^{-3}

    with the evidence p of the counts and the strain e relative to each lattice, whose spread s is that over the
    positions of the lattice: of lattices so much alike that both fit, the one that is strained less.

    Args:
        evidence: ln p of each lattice, ``(n, scan_y, scan_x)``; -inf where the position has no such lattice.
        strain: (e_xx, e_yy, e_xy) relative to each, ``(n, scan_y, scan_x, 3)``.

    Returns:
        Probabilities, ``(n, scan_y, scan_x)``, their sum 1; NaN where there is no lattice at all.

    Example:
        >>> evidence = np.array([[[0.0, -9.0]], [[-9.0, 0.0]]])
        >>> choose_lattice(evidence, np.zeros((2, 1, 2, 3))).round(2).tolist()
        [[[1.0, 0.0]], [[0.0, 1.0]]]

    Reference: ours.
    """
    squares = np.sum(np.nan_to_num(strain) ** 2, axis=-1)
    spread = np.full(len(evidence), WIDEST)
    logarithm = evidence
    for _ in range(ROUNDS):
        by_spread = spread[:, None, None]
        logarithm = evidence - 0.5 * squares / by_spread**2 - 3 * np.log(by_spread)
        chosen = logarithm.argmax(axis=0) == np.arange(len(evidence))[:, None, None]
        chosen &= np.isfinite(evidence)
        counts = np.maximum(chosen.sum(axis=(1, 2)), 1)
        spread = np.sqrt((squares * chosen).sum(axis=(1, 2)) / (3 * counts))
        spread = np.clip(spread, NARROWEST, WIDEST)
    some = np.isfinite(evidence).any(axis=0)
    logarithm = np.where(some, logarithm, 0.0)
    return np.where(some, np.exp(logarithm - logsumexp(logarithm, axis=0)), np.nan)


def join(parts: Sequence[_R], number: np.ndarray | None) -> _R:
    """One result of several for the same scan: at every position that of its lattice.

    Args:
        parts: Of every lattice.
        number: Of the lattice of each position, ``(scan_y, scan_x)``; -1, where there is none, takes the first. None for
            one lattice.

    Returns:
        Maps over the scan joined; everything else is of the first.

    Example:
        >>> from jax4dstem.strain.derived import Derived
        >>> one = Derived(*(np.zeros((1, 2)) for _ in range(10)))
        >>> two = Derived(*(np.ones((1, 2)) for _ in range(10)))
        >>> join([one, two], np.array([[1, 0]])).curvature.tolist()
        [[1.0, 0.0]]
    """
    first, dims = parts[0], dims_of(type(parts[0]))
    if len(parts) == 1:
        return first
    joined, whole = {}, cast(Any, first)
    for name, value in vars(first).items():
        values = [getattr(part, name) for part in parts]
        if isinstance(value, Result):
            joined[name] = join(values, number)
        elif " ".join(dims.get(name, ())).startswith(SCAN):
            joined[name] = _joined(values, number)
    return replace(whole, **joined)


def _joined(values: Sequence[np.ndarray], number: np.ndarray | None) -> np.ndarray:
    joined = np.array(values[0])
    for k, value in enumerate(values[1:], 1):
        joined[number == k] = value[number == k]
    return joined
