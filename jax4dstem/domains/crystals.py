"""The crystal of every domain, by the lattices that are fitted to its positions: cell, strain and rotation, with errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import strain_of
from jax4dstem.domains.domain_map import DomainMap
from jax4dstem.domains.spread import middle_two_thirds
from jax4dstem.errors import InputError
from jax4dstem.fields import Result, entry
from jax4dstem.lattice.basis import MEDIAN, cells_of, reduce_basis
from jax4dstem.lattice.relation import (
    CHANGES,
    OTHER,
    LatticeRelation,
    find_kin,
    relate_lattices,
    strain_size,
)
from jax4dstem.rows import evenly_spaced

FEWEST = 3  # positions that an error is told by
SHOWN = 0.5  # of a domain's positions: of fewer that have a lattice, it is not what the domain is
LEARNED = 2000  # positions of a domain that its lattice is taken from
TRIED = 9  # of them, as the one that the others are compared with
APART = 0.1  # of a lattice vector: a position whose lattice is farther from its domain's shows another one
SIGNIFICANT = 3.0  # standard errors
# Standard deviation of strain relative to a crystal as tables have it: a camera length is rarely known better than to one percent.
AS_TABLES = 0.01
NONE = "none of them"
NO_LATTICE = "no lattice"
_strains = jax.jit(jax.vmap(strain_of))


@dataclass(frozen=True)
class DomainCrystals(Result):
    """The lattice of every domain, its cell, and how it lies to a reference domain's.

    Errors are those of medians, by the scatter of a domain's positions; that of the calibration is not contained.

    Attributes:
        members: Positions of one domain alone that show its lattice, ``(domains,)``.
        lattice: g1, g2 as rows (y, x) in px, median of the members, ``(domains, 2, 2)``; NaN where there is none.
        a: Length of the first basis vector of the cell in real space, ``(domains,)``.
        b: Of the second, ``(domains,)``.
        gamma: Angle between them in degrees, ``(domains,)``.
        a_std: Standard error of a, ``(domains,)``.
        b_std: The same of b, ``(domains,)``.
        gamma_std: The same of gamma, ``(domains,)``.
        strain: e_xx, e_yy, e_xy and theta (radians) relative to the reference domain's lattice, ``(domains, 4)``; NaN for
            another kind of lattice.
        strain_std: Standard errors, those of the reference domain contained, the same shape.
        spread: Standard deviation of e_xx, e_yy, e_xy and theta over the members, ``(domains, 4)``: noise, and what varies
            inside the domain.
        relation: How each lattice lies to the reference's, in words; only what is significant, ``(domains,)``.
        candidate: Name of the most probable of the given crystals, "" without any, ``(domains,)``.
        probability: Of every given crystal, and last of none of them, ``(domains, candidates + 1)``; NaN without a lattice.
        reference: Number of the reference domain; -1 where no domain has a lattice.
        unit: Of a and b: "Å" where the detector's pixel is known, else "1/px".

    Example:
        >>> one = np.ones((1, 2))
        >>> tried = np.array(["sums"]), np.array([1]), np.array([np.nan])
        >>> domains = DomainMap(np.zeros((1, 2), int), one, -one, one, "sums", *tried)
        >>> measure_crystals(domains, np.full((1, 2, 2, 2), np.nan)).relation.tolist()
        ['no lattice']
    """

    members: np.ndarray = entry(
        "domain", "positions", "positions of one domain that show its lattice", "domains/members"
    )
    lattice: np.ndarray = entry(
        "domain vector yx", "px", "g1, g2 (y, x), in scan axes", "domains/lattice"
    )
    a: np.ndarray = entry(
        "domain", "{unit}", "length of the first basis vector of the cell", "domains/a"
    )
    b: np.ndarray = entry("domain", "{unit}", "length of the second", "domains/b")
    gamma: np.ndarray = entry("domain", "deg", "angle between them", "domains/gamma")
    a_std: np.ndarray = entry(
        "domain", "{unit}", "standard error of a, without the calibration's", "domains/a_std"
    )
    b_std: np.ndarray = entry(
        "domain", "{unit}", "standard error of b, without the calibration's", "domains/b_std"
    )
    gamma_std: np.ndarray = entry("domain", "deg", "standard error of gamma", "domains/gamma_std")
    strain: np.ndarray = entry(
        "domain component",
        "",
        "e_xx, e_yy, e_xy, theta (radians) relative to domain {reference}",
        "domains/strain",
    )
    strain_std: np.ndarray = entry(
        "domain component", "", "standard errors of strain", "domains/strain_std"
    )
    spread: np.ndarray = entry(
        "domain component",
        "",
        "standard deviation over the positions of the domain",
        "domains/spread",
    )
    relation: np.ndarray = entry(
        "domain", "", "how each lattice lies to that of domain {reference}", "domains/relation"
    )
    candidate: np.ndarray = entry(
        "domain", "", "most probable of the given crystals", "domains/candidate"
    )
    probability: np.ndarray = entry(
        "domain crystal",
        "1",
        "of each given crystal, and last of none of them",
        "domains/probability",
    )
    reference: int = entry("", "", "number of the reference domain; -1 = none", "domains/reference")
    unit: str = "1/px"


class _Crystal(NamedTuple):
    """The lattice of one domain's positions."""

    members: int
    lattice: np.ndarray
    cell: np.ndarray  # a, b, γ, and their standard errors
    strain_std: np.ndarray
    spread: np.ndarray

    @property
    def basis(self) -> np.ndarray:
        """Real-space vectors as rows (y, x)."""
        return np.linalg.inv(self.lattice).T


_NOTHING = _Crystal(
    0, np.full((2, 2), np.nan), np.full((2, 3), np.nan), np.full(4, np.nan), np.full(4, np.nan)
)


def measure_crystals(
    domains: DomainMap,
    lattices: np.ndarray,
    *,
    pixel: float | None = None,
    candidates: Mapping[str, np.ndarray] | None = None,
) -> DomainCrystals:
    r"""Cell, strain and rotation of every domain, from the lattices of its positions.

    The lattice of a domain is the median of those of its positions, all written in the same basis. Positions that show two domains do not
    count. With a standard deviation s of n positions the error of a median is :math:`\sqrt{\pi / 2n} \, s`. Of given crystals k
    with the strain e between domain and crystal

    .. math:: P_k \propto \exp\left(-\frac{|e_k|^2}{2 s^2}\right), \qquad P_\mathrm{none} \propto \exp(-9 / 2),

    where s, one percent, is how well camera lengths are known: beyond three times that the domain is none of them.

    Args:
        domains: From `map_domains`.
        lattices: g1, g2 of every position as rows (y, x) in px, in scan axes, ``(scan_y, scan_x, 2, 2)``; NaN where there is none.
        pixel: Of the detector in 1/Å; None where it is not known.
        candidates: Lattices of crystals that there may be, ``(2, 2)`` in px, by name; how they are turned says nothing.

    Returns:
        The crystals. The largest domain that has a lattice is the reference.

    Raises:
        InputError: There is not a lattice for every position.

    Example:
        >>> labels, certain = np.repeat([[0, 1]], 4, axis=0), np.ones((4, 2))
        >>> tried = np.array(["sums"]), np.array([2]), np.array([0.9])
        >>> domains = DomainMap(labels, certain, np.full((4, 2), -1), certain, "sums", *tried)
        >>> lattices = np.tile(20 * np.eye(2), (4, 2, 1, 1))
        >>> lattices[:, 1] /= 1.02
        >>> found = measure_crystals(domains, lattices, pixel=0.01)
        >>> found.a.round(2).tolist(), found.strain[1, :2].round(3).tolist(), found.relation[1].item()
        ([5.0, 5.1], [0.02, 0.02], 'strained by 2.000 ± 0.001 %')

    Reference: ours.
    """
    if lattices.shape != (*domains.labels.shape, 2, 2):
        raise InputError(
            f"the lattices have the shape {lattices.shape}, the domains {domains.labels.shape}: "
            "g1 and g2 of every position are (scan_y, scan_x, 2, 2)"
        )
    known = np.isfinite(lattices).all(axis=(-1, -2))
    alone = domains.second < 0
    crystals = []
    for number in range(len(domains.size)):
        whole = domains.labels == number
        inside = whole & alone if (whole & alone).any() else whole
        shown = inside & known
        crystals.append(
            _crystal(lattices[shown]) if shown.sum() > SHOWN * inside.sum() else _NOTHING
        )
    return _table(crystals, candidates or {}, pixel)


def _crystal(lattices: np.ndarray) -> _Crystal:
    """The lattice that most of ``(n, 2, 2)`` show, in whatever basis each is written."""
    lattices = lattices[evenly_spaced(len(lattices), LEARNED)]
    middle = _typical(lattices)
    alike, distance = _in_basis_of(middle, lattices)
    alike = alike[distance < APART]
    if len(alike) < max(FEWEST, SHOWN * len(lattices)):
        return _NOTHING
    middle = reduce_basis(np.median(alike, axis=0))
    alike, _ = _in_basis_of(middle, alike)
    # G = G_m F⁻¹, so that strain is that of the specimen.
    gradients = np.linalg.solve(alike, np.broadcast_to(middle, alike.shape))
    strain = np.stack(_strains(jnp.asarray(gradients, float)), axis=-1).astype(np.float64)
    per_median = MEDIAN / np.sqrt(len(alike))
    cell = np.array([cells_of(middle[None])[0], per_median * middle_two_thirds(cells_of(alike))[1]])
    spread = middle_two_thirds(strain)[1]
    return _Crystal(len(alike), middle, cell, per_median * spread, spread)


def _typical(lattices: np.ndarray) -> np.ndarray:
    """The one of some that the others are nearest to, in its shortest basis."""
    some = [reduce_basis(one) for one in lattices[evenly_spaced(len(lattices), TRIED)]]
    rests = [np.minimum(_in_basis_of(one, lattices)[1], APART).sum() for one in some]
    return some[int(np.argmin(rests))]


def _in_basis_of(middle: np.ndarray, lattices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each lattice in that of its bases that is nearest to another's, and how far that is, over the length of its shorter vector."""
    distance = np.zeros((len(CHANGES), len(lattices)))
    # Entry by entry: products of many 2 x 2 matrices take 25 times as long.
    for i, k in np.ndindex(2, 2):
        value = CHANGES[:, i, :1] * lattices[:, 0, k] + CHANGES[:, i, 1:] * lattices[:, 1, k]
        np.maximum(distance, np.abs(value - middle[i, k]), out=distance)
    best = distance.argmin(axis=0)
    nearest = CHANGES[best] @ lattices
    return nearest, distance.min(axis=0) / np.linalg.norm(middle, axis=1).min()


def _table(
    crystals: Sequence[_Crystal], candidates: Mapping[str, np.ndarray], pixel: float | None
) -> DomainCrystals:
    there = [n for n, crystal in enumerate(crystals) if crystal.members]
    reference = there[0] if there else -1  # domains are numbered by size
    strain, relation = _relations(crystals, there)
    errors = np.array([crystal.strain_std for crystal in crystals])
    if there:
        own = np.arange(len(crystals)) == reference
        errors = np.where(own[:, None], 0.0, np.hypot(errors, errors[reference]))
    length = np.array([1 / (pixel or 1.0)] * 2 + [1.0])
    cells = np.array([crystal.cell for crystal in crystals]) * length
    probability = np.array([_probabilities(crystal, candidates) for crystal in crystals])
    names = np.array([*candidates, NONE])
    best = [
        str(names[row.argmax()]) if candidates and np.isfinite(row).all() else ""
        for row in probability
    ]
    values, deviations = cells[:, 0], cells[:, 1]
    return DomainCrystals(
        members=np.array([crystal.members for crystal in crystals], np.int32),
        lattice=np.array([crystal.lattice for crystal in crystals]),
        **dict(zip(("a", "b", "gamma"), values.T, strict=True)),
        **dict(zip(("a_std", "b_std", "gamma_std"), deviations.T, strict=True)),
        strain=strain,
        strain_std=errors,
        spread=np.array([crystal.spread for crystal in crystals]),
        relation=np.array([_in_words(*each, errors[n]) for n, each in enumerate(relation)]),
        candidate=np.array(best, dtype=str),
        probability=probability,
        reference=reference,
        unit="1/px" if pixel is None else "Å",
    )


def _relations(
    crystals: Sequence[_Crystal], there: list[int]
) -> tuple[np.ndarray, list[tuple[LatticeRelation | None, str]]]:
    """Strain to the reference; and the relation to the first domain of the same kind of lattice, with its name where it is not the reference."""
    strain = np.full((len(crystals), 4), np.nan)
    relation: list[tuple[LatticeRelation | None, str]] = [(None, NO_LATTICE)] * len(crystals)
    for n, kin in zip(there, find_kin([crystals[n].basis for n in there]), strict=True):
        if kin.to_first is None:
            strain[n] = 0.0
        elif kin.to_first.name != OTHER:
            strain[n] = np.array(kin.to_first.strain)
        if kin.to_leader is None:
            relation[n] = None, "reference" if kin.to_first is None else OTHER
        else:
            relation[n] = kin.to_leader, f" to domain {there[kin.leader]}" if kin.leader else ""
    return strain, relation


def _in_words(found: LatticeRelation | None, text: str, errors: np.ndarray) -> str:
    """What of a relation is significant."""
    if found is None:
        return text
    words = [f"twin on [{found.twin[0]} {found.twin[1]}]"] if found.twin else []
    angle, size = float(found.strain.theta), strain_size(found.strain)
    if abs(angle) > SIGNIFICANT * errors[3]:
        words.append(f"rotated by {_with_error(np.degrees(angle), np.degrees(errors[3]))}°")
    error = float(np.linalg.norm(errors[:3]) / np.sqrt(3))
    if size > SIGNIFICANT * error:
        words.append(f"strained by {_with_error(100 * size, 100 * error)} %")
    return (", ".join(words) or "same lattice") + text


def _with_error(value: float, error: float) -> str:
    """To the digit of the error's first, three at most."""
    digits = int(np.clip(np.ceil(-np.log10(max(error, 1e-3))), 0, 3))
    return f"{value:.{digits}f} ± {max(error, 10.0**-digits):.{digits}f}"


def _probabilities(crystal: _Crystal, candidates: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of every candidate, and last of none of them."""
    if not crystal.members:
        return np.full(len(candidates) + 1, np.nan)
    sizes = []
    for lattice in candidates.values():
        e_xx, e_yy, e_xy, _ = relate_lattices(crystal.basis, np.linalg.inv(lattice).T).strain
        sizes.append(e_xx**2 + e_yy**2 + 2 * e_xy**2)
    square = np.array([*sizes, (SIGNIFICANT * AS_TABLES) ** 2])
    weight = np.exp(-0.5 * (square - square.min()) / AS_TABLES**2)
    return weight / weight.sum()
