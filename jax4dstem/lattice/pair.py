"""Two crystals under one probe: maximum-likelihood fit of both lattices to the counts of one pattern."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.lattice.binning import bin_counts, bin_point
from jax4dstem.lattice.choice import FoundLattice
from jax4dstem.lattice.elimination import solve_scaled
from jax4dstem.lattice.fit import (
    BLURS,
    FAINTEST,
    LONGEST_STEP,
    SETTLED,
    height_scale,
    typical_heights,
)
from jax4dstem.lattice.measure import LatticeSetup, contrast_without, score_apart
from jax4dstem.lattice.model import FLOOR, LatticeFit, LatticeModel, lattice_moves
from jax4dstem.lattice.patches import (
    Patches,
    gather_patches,
    mean_heights,
    reflection_positions,
)
from jax4dstem.lattice.probe import LOGISTIC
from jax4dstem.lattice.render import interpolate_profile
from jax4dstem.lattice.search import score_lattice
from jax4dstem.typing import Array, Float, Int, Pattern, Point, Scalar

CROSSING = (
    4  # disks of the other lattice that may reach into a cell: their spacing is above a diameter
)
PARAMETERS = 10  # center, and the distortions of both


class PairFit(NamedTuple):
    """Two lattices of one pattern.

    Attributes:
        first: The lattice that was known before, the other and all heights eliminated from its information.
        second: The other one, the same way.
        amounts: Share of the pattern's electrons in the diffracted disks of each.
        covariance: Of the amounts, both lattices and the background eliminated.
    """

    first: LatticeFit
    second: LatticeFit
    amounts: Float[Array, "2"]
    covariance: Float[Array, "2 2"]


@dataclass(frozen=True)
class FitPair:
    r"""Pattern function: Fisher scoring of two lattices at once on the likelihood of the counts.

    .. math::
        \lambda(r) = \sum_{j \in A} a_j \, d(r - r_j) + \sum_{k \in B} a_k \, d(r - r_k) + b_i \, \beta(|r - c|)

    with the disks of both lattices about one center c and one direct beam. A pixel belongs to the cell i of the nearest
    reflection of either; its counts are owned by all disks that reach it. Backgrounds are eliminated cell by
    cell, and the heights of all disks together, which leaves the 10 x 10 information on (c, A, B): what disks that
    overlap cannot tell is in the error bars. Disks are flat.

    Where few electrons tell a disk's position only to an error s that is wider than its edge w, the likelihood is rough on the
    scale of the error: noise in the few pixels of the rim decides which of several maxima is climbed, and the information of so steep
    an edge promises too much. Every disk is therefore drawn as it is expected to be seen, averaged over where it may be:

    .. math:: w_j^2 = w^2 + \frac{3}{\pi^2} s_j^2, \qquad s_j^2 = \tfrac12 \operatorname{tr}\left(M_j I^{-1} M_j^T\right)

    with the derivative M of its position by the parameters and the information I of the iteration before; the factor makes the
    variance of a logistic edge that of the position. Many electrons leave the edge as it is.

    The heights of a lattice have the prior of its typical intensities times an amount that is free: the typical
    intensities as a whole are left out of the prior.

    Attributes:
        patch: Side of the patches around the reflections, in px, odd.
        coarse: Iterations with blurred edges.
        fine: Iterations with the models' own edges.

    Example:
        >>> import numpy as np
        >>> from jax4dstem.coordinates import deformation
        >>> from jax4dstem.lattice.model import starting_model
        >>> from jax4dstem.lattice.render import render
        >>> indices = np.indices((3, 3)).reshape(2, 9).T - 1
        >>> model = starting_model(np.diag([13.0, 13.0]), indices[[4, 0, 1, 2, 3, 5, 6, 7, 8]], 2.5)
        >>> model = model._replace(background=jnp.full(2, 1e-4))
        >>> turned, draw = deformation(0.0, 0.0, 0.0, 0.5), jax.jit(render, static_argnums=(0, 5))
        >>> at, shares = jnp.array([23.6, 24.1]), jnp.full(9, 0.06)
        >>> expected = sum(draw((48, 48), at, A, w * shares, model, 13) for A, w in ((jnp.eye(2), 0.7), (turned, 0.3)))
        >>> fit = jax.jit(FitPair(9))(1e5 * expected, at, jnp.eye(2), turned, (model, model))
        >>> [round(float(amount / fit.amounts.sum()), 2) for amount in fit.amounts]
        [0.7, 0.3]

    Reference: ours.
    """

    patch: int
    coarse: int = 4
    fine: int = 5

    def __call__(
        self,
        pattern: Pattern,
        center: Point,
        first: Float[Array, "2 2"],
        second: Float[Array, "2 2"],
        models: tuple[LatticeModel, LatticeModel],
    ) -> PairFit:
        """Fit from a start.

        Args:
            pattern: Raw counts ``(det_y, det_x)``; pixels that the detector cannot use are left out.
            center: (y, x) in px.
            first: A of the first lattice.
            second: A of the second.
            models: Of both, with the first one's background.
        """
        n = len(models[0].indices)
        at, one, two = (jnp.asarray(leaf, float) for leaf in (center, first, second))
        state = _State(at, one, two, jnp.zeros(0))
        blurred = jnp.zeros(n + len(models[1].indices) - 1)
        pair = _Pair(models, pattern, height_scale(pattern, models[0]))
        cells = self._cells(state, pair)
        state = state._replace(heights=self._first_heights(state, cells, pair))
        edge = models[0].edge_width
        blurs = jnp.maximum(jnp.linspace(*BLURS, self.coarse) * models[0].radius, edge)
        edges = jnp.concatenate([blurs, jnp.broadcast_to(edge, self.fine)])

        def step(carry: tuple[_State, Array], edge: Scalar) -> tuple[tuple[_State, Array], Any]:
            state, blurred = carry
            width = jnp.minimum(jnp.sqrt(edge**2 + blurred), jnp.maximum(edge, blurs[0]))
            found = _equations(state, self._cells(state, pair), pair, width)
            state, last = _moved(state, found, pair, width)
            return (state, _edge_variances(found.information, models)), last

        (state, _), results = jax.lax.scan(step, (state, blurred), edges)
        last = jax.tree.map(lambda leaf: leaf[-1], results)
        shares = state.heights[:, 0] / pair.scale
        settled = last.errors < SETTLED
        # Both have the direct beam.
        parts = [
            (np.arange(n), state.first, 2),
            (np.r_[0, n : len(shares)], state.second, 6),
        ]
        fits = [
            LatticeFit(
                state.center,
                distortion,
                _own_information(last.information, at),
                shares[own],
                last.dispersion[own],
                jnp.zeros(len(own)),
                jnp.asarray(0.0),
                last.longest,
                settled,
                jnp.asarray(0.0),
            )
            for own, distortion, at in parts
        ]
        # Heights are relative to a disk with a sharp edge; a soft one reaches beyond it.
        whole = models[0].probe.area / (jnp.pi * models[0].radius ** 2)
        amounts = whole * jnp.stack([jnp.sum(shares[1:n]), jnp.sum(shares[n:])])
        return PairFit(fits[0], fits[1], amounts, whole**2 * last.amounts)

    def _cells(self, state: "_State", pair: "_Pair") -> list["_Cells"]:
        """Pixels around the reflections of each lattice; the second has no direct beam of its own."""
        lattices = list(zip((state.first, state.second), pair.models, strict=True))
        places = [reflection_positions(state.center, *lattice) for lattice in lattices]
        patches = [
            gather_patches(pair.pattern, state.center, *lattice, self.patch) for lattice in lattices
        ]
        patches[1] = jax.tree.map(lambda leaf: leaf[1:], patches[1])
        places[1] = places[1][1:]
        n = len(places[0])
        return [
            _Cells.of(patches[0], places[0], places[1], 0, n),
            _Cells.of(patches[1], places[1], places[0], n, 0),
        ]

    def _first_heights(self, state: "_State", cells: list["_Cells"], pair: "_Pair") -> Array:
        """At first sight."""
        heights = []
        for part, model in zip(cells, pair.models, strict=True):
            disk, background, _ = mean_heights(part.patches, part.places, model)
            typical = model.intensity[-len(disk) :] * pair.scale
            disk = jnp.maximum(disk, FAINTEST * typical)
            heights.append(jnp.stack([disk, jnp.maximum(background, FLOOR)], axis=1))
        return jnp.concatenate(heights)


class _State(NamedTuple):
    center: Array
    first: Array
    second: Array
    heights: Array  # (n, 2): of the disks of both lattices, and of the backgrounds in their cells


class _Pair(NamedTuple):
    models: tuple[LatticeModel, LatticeModel]
    pattern: Array
    scale: Scalar


class _Cells(NamedTuple):
    """Pixels nearest to the reflections of one lattice, and the other's disks that may reach them."""

    patches: Patches
    places: Float[Array, "n 2"]
    others: Float[Array, "n k 2"]
    which: Int[Array, "n all"]  # numbers of the disks: its own, then the others'

    @classmethod
    def of(
        cls, patches: Patches, places: Array, others: Array, start: int, start_of_others: int
    ) -> "_Cells":
        apart = jnp.sum((places[:, None] - others) ** 2, axis=-1)
        _, nearest = jax.lax.top_k(-apart, min(CROSSING, len(others)))
        crossing = others[nearest]
        y, x = patches.apart(places)
        own = (y[:, :, None] ** 2 + x[:, None, :] ** 2).reshape(patches.used.shape)
        rows = patches.rows[:, None] - crossing[..., :1]
        columns = patches.columns[:, None] - crossing[..., 1:]
        theirs = (rows[..., :, None] ** 2 + columns[..., None, :] ** 2).reshape(*nearest.shape, -1)
        nearer = own <= jnp.min(theirs, axis=1)
        number = jnp.arange(start, start + len(places))[:, None]
        which = jnp.concatenate([number, start_of_others + nearest], axis=1)
        return cls(patches._replace(used=patches.used * nearer), places, crossing, which)


class _Equations(NamedTuple):
    information: Array  # (10, 10)
    gradient: Array
    change: Array  # (n, 2) of the heights where nothing else changes
    by_lattice: Array  # (n, 2, 10)
    dispersion: Array
    amounts: Array  # (2, 2)


def _edge_variances(information: Array, models: tuple[LatticeModel, LatticeModel]) -> Array:
    """What uncertain positions add to the squared edge widths of all disks, ``(n,)``."""
    moves = _moves(models)
    covariance = solve_scaled(information, jnp.eye(PARAMETERS))
    variance = 0.5 * jnp.einsum("nia,ab,nib->n", moves, covariance, moves)
    return jnp.maximum(variance, 0.0) / LOGISTIC


def _equations(state: _State, cells: list[_Cells], pair: _Pair, width: Array) -> _Equations:
    moves = _moves(pair.models)
    parts = [
        _cell_equations(state, each, own, other, moves, pair, width)
        for each, own, other in zip(cells, pair.models, pair.models[::-1], strict=True)
    ]
    gram, score, dispersion = (
        jnp.concatenate(leaves) for leaves in zip(*(part[:3] for part in parts), strict=True)
    )
    which = jnp.concatenate([each.which for each in cells])
    s = PARAMETERS
    # Backgrounds, cell by cell.
    pivot = gram[:, -1, -1]
    by_others = gram[:, -1, :-1] / pivot[:, None]
    start = score[:, -1] / pivot
    gram = gram[:, :-1, :-1] - gram[:, :-1, -1:] * by_others[:, None]
    score = score[:, :-1] - by_others * score[:, -1:]
    n = len(which)
    own = jnp.zeros((n, n)).at[which[:, :, None], which[:, None]].add(gram[:, s:, s:])
    across = jnp.zeros((n, s)).at[which].add(gram[:, s:, :s])
    own_score = jnp.zeros(n).at[which].add(score[:, s:])
    prior, prior_score, members = _priors(state, pair)
    own, own_score = own + prior, own_score + prior_score
    right = jnp.concatenate([across, own_score[:, None], members], axis=1)
    solved = solve_scaled(own, right)
    information = jnp.sum(gram[:, :s, :s], axis=0) - across.T @ solved[:, :s]
    gradient = jnp.sum(score[:, :s], axis=0) - across.T @ solved[:, s]
    slope = across.T @ solved[:, s + 1 :]
    amounts = members.T @ solved[:, s + 1 :] + slope.T @ solve_scaled(information, slope)
    disks, by_lattice = solved[:, s], solved[:, :s]
    # What follows for the backgrounds.
    under = start - jnp.einsum("nk,nk->n", by_others[:, s:], disks[which])
    under_by = by_others[:, :s] - jnp.einsum("nk,nks->ns", by_others[:, s:], by_lattice[which])
    return _Equations(
        information,
        gradient,
        jnp.stack([disks, under], axis=1),
        jnp.stack([by_lattice, under_by], axis=1),
        dispersion,
        amounts / pair.scale**2,
    )


def _cell_equations(
    state: _State,
    cells: _Cells,
    own: LatticeModel,
    other: LatticeModel,
    moves: Array,
    pair: _Pair,
    width: Array,
) -> tuple[Array, Array, Array]:
    """Normal equations of every cell: lattices, its disk, the others', its background; and its dispersion."""
    patches, which = cells.patches, cells.which
    flat, crossing = patches.counts.shape, cells.others.shape[1]
    widths = width[which][..., None, None]
    mine = own.probe.draw(*patches.apart(cells.places), widths[:, 0])
    rows = (patches.rows[:, None] - cells.others[..., :1]).reshape(flat[0] * crossing, -1)
    columns = (patches.columns[:, None] - cells.others[..., 1:]).reshape(flat[0] * crossing, -1)
    theirs = other.probe.draw(rows, columns, widths[:, 1:].reshape(-1, 1, 1))
    disk, by_y, by_x = (
        jnp.concatenate([a.reshape(flat[0], 1, -1), b.reshape(flat[0], crossing, -1)], axis=1)
        for a, b in zip(mine, theirs, strict=True)
    )
    heights = state.heights[which, 0]
    background = state.heights[which[:, 0], 1]
    expected = jnp.einsum("nk,nkp->np", heights, disk)
    expected = expected + background[:, None] * patches.background + FLOOR
    precision = patches.used / own.detector.noise.variance(expected)
    residual = patches.counts - expected
    slopes = jnp.stack([by_y, by_x], axis=2) * heights[..., None, None]
    shared = jnp.einsum("nkda,nkdp->nap", moves[which], slopes)
    columns = jnp.concatenate([shared, disk, patches.background[:, None]], axis=1)
    spread = own.dispersion[-flat[0] :]
    if own.scatter is not None:
        spread = spread * jnp.mean(own.scatter[-flat[0] :], axis=1)
    weighted = columns * (precision / spread[:, None])[:, None]
    gram = jnp.einsum("nip,njp->nij", weighted, columns)
    score = jnp.einsum("nip,np->ni", weighted, residual)
    # The radial background is known about as well as it differs from its mean.
    apart = jnp.sqrt(1e-30 + jnp.sum((cells.places - state.center) ** 2, axis=1))
    dose = pair.scale * jnp.pi * own.radius**2
    level = jnp.maximum(dose * interpolate_profile(pair.models[0].background, apart), FLOOR)
    gram = gram.at[:, -1, -1].add(1 / level**2)
    score = score.at[:, -1].add((level - background) / level**2)
    counted = jnp.sum(patches.used, axis=1)
    chi_squared = jnp.sum(residual**2 * precision, axis=1)
    return gram, score, chi_squared / jnp.maximum(counted - 4, 1.0)


def _priors(state: _State, pair: _Pair) -> tuple[Array, Array, Array]:
    """Precision and score of the disks' heights, and which of them are diffracted, by lattice ``(n, 2)``."""
    n = len(pair.models[0].indices)
    heights = state.heights[:, 0]
    typical, certainty = typical_heights(pair.models[0], pair.scale)
    parts = [jnp.diag(certainty[:1])]
    scores = [certainty[:1] * (typical[:1] - heights[:1])]
    for model, of_lattice in zip(pair.models, (heights[1:n], heights[n:]), strict=True):
        typical, certainty = (leaf[1:] for leaf in typical_heights(model, pair.scale))
        known = jnp.sum(certainty * typical**2)
        amount = jnp.clip(jnp.sum(certainty * typical * of_lattice) / known, 0.05, 2.0)
        certainty = certainty / amount**2
        along = certainty * typical
        precision = jnp.diag(certainty) - along[:, None] * along / jnp.sum(along * typical)
        parts.append(precision)
        scores.append(-precision @ of_lattice)
    precision = jax.scipy.linalg.block_diag(*parts)
    number = jnp.arange(len(heights))
    members = jnp.stack([(number > 0) & (number < n), number >= n], axis=1)
    return precision, jnp.concatenate(scores), members.astype(float)


def _moves(models: tuple[LatticeModel, LatticeModel]) -> Array:
    """Derivative of all reflections' positions by (c, A, B), ``(n, 2, 10)``."""
    first, second = lattice_moves(models[0]), lattice_moves(models[1])[1:]
    nothing = [jnp.zeros((len(moves), 2, 4)) for moves in (first, second)]
    return jnp.concatenate(
        [
            jnp.concatenate([first, nothing[0]], axis=2),
            jnp.concatenate([second[..., :2], nothing[1], second[..., 2:]], axis=2),
        ]
    )


class _Last(NamedTuple):
    """What the last iteration knows."""

    information: Array
    dispersion: Array
    amounts: Array
    longest: Array
    errors: Array


def _moved(state: _State, found: _Equations, pair: _Pair, width: Array) -> tuple[_State, _Last]:
    """The state after one damped step."""
    model = pair.models[0]
    # Of blurred edges, which real ones, being steeper, overshoot; see `FitLattice`.
    overshoot = jnp.sqrt(2 / (1 + (model.edge_width / jnp.max(width)) ** 2))
    change = solve_scaled(found.information, found.gradient[:, None])[:, 0] / overshoot
    errors = jnp.sqrt(jnp.maximum(change @ found.information @ change, 1e-30) / PARAMETERS)
    shift = jnp.einsum("nia,a->ni", _moves(pair.models), change)
    longest = jnp.sqrt(jnp.max(jnp.sum(shift**2, axis=1)) + 1e-30)
    change = change * jnp.minimum(1.0, LONGEST_STEP * model.radius / jnp.maximum(longest, 1e-9))
    heights = state.heights + found.change - found.by_lattice @ change
    moved = _State(
        state.center + change[:2],
        state.first + change[2:6].reshape(2, 2).T,
        state.second + change[6:].reshape(2, 2).T,
        jnp.maximum(heights, FLOOR),
    )
    return moved, _Last(found.information, found.dispersion, found.amounts, longest, errors)


def _own_information(information: Array, at: int) -> Array:
    """Of the center and one distortion, the other one eliminated."""
    keep = np.r_[0:2, at : at + 4]
    rest = np.r_[6:10] if at == 2 else np.r_[2:6]
    across = information[np.ix_(rest, keep)]
    inner = information[np.ix_(rest, rest)]
    return information[np.ix_(keep, keep)] - across.T @ solve_scaled(inner, across)


@dataclass(frozen=True)
class MeasurePair:
    """Pattern function: a second lattice in a pattern whose first one is known, and both fitted together.

    What the first lattice leads one to expect is subtracted from the contrast of the pattern, whose noise stays, and the
    rest is searched like a pattern of its own, at reflections beside those of the first.

    Attributes:
        fit: Of both lattices.
        binning: Pixels joined along an axis for the search.

    Example:
        `strain.find_seconds` maps it over the positions that ask for it.

        >>> MeasurePair(FitPair(11), 2).fit.patch
        11
    """

    fit: FitPair
    binning: int

    def __call__(
        self,
        pattern: Pattern,
        known: FoundLattice,
        setups: tuple[LatticeSetup, LatticeSetup],
    ) -> PairFit:
        """Search the second lattice, fit both, and score each beside the other.

        Args:
            pattern: Raw counts ``(det_y, det_x)``.
            known: The first lattice.
            setups: Shared by the scan, of the first and the second lattice.

        Returns:
            Both; the score of one is of the contrast without the other, 0 where disks of the second all but coincide
            with those of the first.
        """
        factor, models = self.binning, (setups[0].model, setups[1].model)
        counts = bin_counts(pattern, models[0].detector, factor)
        drawn = self.fit.patch, factor

        def without(lattice: FoundLattice, which: int) -> Array:
            """Contrast without the disks of one lattice, in the filters of the other."""
            kernels = setups[1 - which].kernels
            return contrast_without(pattern, counts, lattice, models[which], kernels, drawn)

        hypotheses, vectors = setups[1].hypotheses, models[0].distorted(known.distortion) / factor
        radius = models[0].radius / factor
        middle = bin_point(known.center, factor)
        at = hypotheses.vectors, hypotheses, vectors, radius
        scores = score_apart(without(known, 0), middle, *at)
        start = hypotheses.vectors[jnp.argmax(scores)] * factor
        start = jnp.linalg.inv(models[1].lattice) @ start @ jnp.linalg.inv(models[1].to_detector)
        fit = self.fit(pattern, known.center, known.distortion, start, models)
        first, second = fit.first, fit.second
        middle = bin_point(first.center, factor)
        vectors = [
            model.distorted(each.distortion) / factor
            for model, each in zip(models, (first, second), strict=True)
        ]
        found = FoundLattice(first.center, first.distortion, first.intensities)
        score = score_apart(without(found, 0), middle, vectors[1], hypotheses, vectors[0], radius)
        # The direct beam is the first one's.
        found = FoundLattice(second.center, second.distortion, second.intensities.at[0].set(0.0))
        score_of_first = score_lattice(without(found, 1), middle, vectors[0], setups[0].hypotheses)
        return fit._replace(
            first=first._replace(score=score_of_first), second=second._replace(score=score)
        )
