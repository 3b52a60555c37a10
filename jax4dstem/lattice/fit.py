"""Maximum-likelihood fit of a lattice of Bragg disks to the counts of one pattern."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax4dstem.detector import pattern_dose
from jax4dstem.lattice.adjoint import Adjoint, Equations, Implicit, Unknowns
from jax4dstem.lattice.binning import bin_counts, bin_model, bin_point, unbin_point
from jax4dstem.lattice.disks import disk_textures
from jax4dstem.lattice.elimination import solve_scaled, solve_small
from jax4dstem.lattice.joined import joined_equations
from jax4dstem.lattice.model import FLOOR, LatticeFit, LatticeModel, lattice_moves
from jax4dstem.lattice.patches import (
    Patches,
    gather_patches,
    mean_heights,
    reflection_positions,
)
from jax4dstem.typing import Array, Float, Pattern, Point, Scalar

LONGEST_STEP = 0.4  # disk radii that a reflection may move in one iteration
BLURS = (0.3, 0.15)  # disk radii: edge widths of the first and the last coarse iteration
FAINTEST = (
    0.1  # of a typical height, where a fit starts: at zero a disk would not pull its position
)
TEXTURE_STEPS = 3  # of textures on their own, nearly linear: the third changes nothing
CONVERGED = Implicit()
PER_REFLECTION = (
    "indices",
    "intensity",
    "spread",
    "dispersion",
    "scatter",
)  # attributes of a model
SETTLED = (
    1.0  # standard errors that center and distortion of a converged fit move in the last iteration
)


@dataclass(frozen=True)
class FitLattice:
    r"""Pattern function: Fisher scoring of center and distortion on the likelihood of the counts.

    Around reflection j the expected counts are

    .. math::
        \lambda(r) = a_j \, d(r - r_j) \Bigl(1 + \sum_m t_{jm} z_m(r - r_j)\Bigr) + b_j \, \beta(|r - c|),
        \qquad r_j = c + (h_j, k_j)\, G_\mathrm{ref} A ,

    with the disk d of the model's probe, low-order polynomials z inside it (``modes`` of them) and the radial
    background β, whose height is free and whose slope is not. A pixel belongs to the cell of the
    nearest reflection. The heights a, t, b of each disk are eliminated exactly from the Fisher
    information (Schur complement), which leaves for every disk the information on its position, a
    2 x 2 matrix; the lattice joins them in the 6 x 6 information on (c, A). Heights have Gaussian
    priors of the scan's typical intensities. The first iterations run with blurred edges, which
    widens the capture range to about a disk radius, and on binned pixels, which blurred edges do not miss.

    Attributes:
        patch: Side of the patches around the reflections, in px, odd.
        modes: Polynomials inside the disks: 0 (flat), 2 (slopes) or 5 (and curvatures).
        binning: Pixels joined along an axis during the coarse iterations; see `search_binning`.
        coarse: Iterations with blurred edges.
        fine: Iterations with the model's own edges.
        adjoint: How it is differentiated: `Implicit`, as of the converged fit, or `Unrolled`.
        joined: Whether disks reach into the cells of their neighbors: pixels are then owned by a sum of disks, flat ones, and
            all heights are eliminated together. The adjoint is `Unrolled`, since reflections are not on their own.

    Example:
        >>> import numpy as np
        >>> from jax4dstem.lattice.model import starting_model
        >>> from jax4dstem.lattice.render import render
        >>> indices = np.indices((3, 3)).reshape(2, 9).T - 1
        >>> model = starting_model(np.diag([13.0, 13.0]), indices[[4, 0, 1, 2, 3, 5, 6, 7, 8]], 2.5)
        >>> model = model._replace(background=jnp.full(2, 1e-4))
        >>> draw = jax.jit(render, static_argnums=(0, 5))
        >>> expected = 1e4 * draw((48, 48), jnp.array([23.6, 24.1]), jnp.eye(2), jnp.full(9, 0.1), model, 13)
        >>> fit = jax.jit(FitLattice(9))(expected, jnp.array([24.0, 24.0]), jnp.eye(2), model)
        >>> [round(float(x), 2) for x in fit.center]
        [23.6, 24.1]

    Reference: ours.
    """

    patch: int
    modes: int = 0
    binning: int = 1
    coarse: int = 4
    fine: int = 2
    adjoint: Adjoint = CONVERGED
    joined: bool = False

    def __call__(
        self, pattern: Pattern, center: Point, distortion: Float[Array, "2 2"], model: LatticeModel
    ) -> LatticeFit:
        """Fit from a start.

        Args:
            pattern: Raw counts ``(det_y, det_x)``; pixels that the detector cannot use are left out.
            center: (y, x) in px.
            distortion: A.
            model: Shared by the scan.

        Returns:
            The fit; NaN for a pattern without counts.
        """
        start = _State(jnp.asarray(center, float), jnp.asarray(distortion, float), None)
        unknowns, rest = self.adjoint.solve(
            self._iterations, self._evaluate, start, (pattern, model)
        )
        information, dispersion, longest, errors = rest
        heights = unknowns.heights
        return LatticeFit(
            *_split(unknowns.lattice),
            information,
            heights[:, 0] / height_scale(pattern, model),
            dispersion,
            jnp.sum(heights[:, 2:] ** 2, axis=1) / heights[:, 0] ** 2,
            jnp.asarray(0.0),
            longest,
            errors < SETTLED,
            jnp.asarray(0.0),
        )

    def _iterations(self, start: "_State", given: Any) -> tuple[Unknowns, Any]:
        pattern, model = given
        scale = height_scale(pattern, model)
        state = self._coarse_fit(pattern, start, model, scale)
        patches = gather_patches(pattern, state.center, state.distortion, model, self.patch)
        edges = jnp.broadcast_to(model.edge_width, self.fine)
        state, results = self._iterate(state, patches, model, edges, scale)
        return _unknowns(state), jax.tree.map(lambda leaf: leaf[-1], results)

    def _evaluate(self, unknowns: Unknowns, given: Any) -> tuple[Equations, Any]:
        """Equations of the solution, and what the last iteration knows, at any state."""
        pattern, model = given
        scale = height_scale(pattern, model)

        # One reflection at a time, and computed again on the way back, so that its pixels are all that is kept.
        @jax.checkpoint
        def reflection(part: Any) -> tuple[Equations, Any]:
            heights, *own = jax.tree.map(lambda leaf: leaf[None], part)
            alone = model._replace(**dict(zip(PER_REFLECTION, own, strict=True)))
            state = _State(*_split(unknowns.lattice), heights)
            return self._evaluate_some(state, pattern, alone, scale)

        parts = unknowns.heights, *(getattr(model, name) for name in PER_REFLECTION)
        equations, (information, dispersion) = jax.lax.map(reflection, parts)
        equations, dispersion = jax.tree.map(lambda leaf: leaf[:, 0], (equations, dispersion))
        nothing = jnp.zeros(())  # moves any more
        return equations, (jnp.sum(information, axis=0), dispersion, nothing, nothing)

    def _evaluate_some(
        self, state: "_State", pattern: Pattern, model: LatticeModel, scale: Scalar
    ) -> tuple[Equations, Any]:
        patches = gather_patches(pattern, state.center, state.distortion, model, self.patch)
        normal = _normal_equations(state, patches, model, model.edge_width, scale)
        lattice = jnp.einsum("nia,ni->na", lattice_moves(model), normal.score[:, :2])
        # A height at its lower limit stays there.
        held = jax.lax.stop_gradient(state.heights <= _lowest(state.heights.shape[1]))
        heights = jnp.where(held, FLOOR - state.heights, normal.score[:, 2:])
        return (
            Equations(lattice / model.dispersion[:, None], heights),
            (_join(_eliminate(normal), model)[0], normal.dispersion),
        )

    def _coarse_fit(
        self, pattern: Pattern, state: "_State", model: LatticeModel, scale: Scalar
    ) -> "_State":
        """The iterations with blurred edges, on binned pixels; heights are those of full pixels again."""
        factor = self.binning
        pattern = bin_counts(pattern, model.detector, factor)
        model, scale = bin_model(model, factor), scale * factor**2
        state = state._replace(center=bin_point(state.center, factor))
        side = 2 * -(-(self.patch // 2) // factor) + 1
        patches = gather_patches(pattern, state.center, state.distortion, model, side)
        positions = reflection_positions(state.center, state.distortion, model)
        heights = first_heights(patches, positions, model, scale, self.modes)
        blurs = jnp.linspace(*BLURS, self.coarse) * model.radius
        blurs = jnp.maximum(blurs, model.edge_width)
        state, _ = self._iterate(state._replace(heights=heights), patches, model, blurs, scale)
        center = unbin_point(state.center, factor)
        return state._replace(center=center, heights=state.heights / factor**2)

    def _iterate(
        self, state: "_State", patches: Patches, model: LatticeModel, edges: Array, scale: Scalar
    ) -> Any:
        step = _joined_step if self.joined else _step
        return jax.lax.scan(lambda s, edge: step(s, patches, model, edge, scale), state, edges)


class _State(NamedTuple):
    center: Array
    distortion: Array
    heights: Any  # (n, 2 + modes): disk, background, texture; None before they are known


def _shapes(
    state: _State, patches: Patches, model: LatticeModel, edge: Scalar, modes: int
) -> tuple[Array, Array]:
    """Derivatives of the expected counts: by position ``(n, 2, p)``, by heights ``(n, 2 + modes, p)``."""
    positions = reflection_positions(state.center, state.distortion, model)
    y, x = patches.apart(positions)
    flat = patches.counts.shape
    disk, *slopes = (part.reshape(flat) for part in model.probe.draw(y, x, edge))
    height = state.heights[:, :1]
    modes_of = disk_textures(y[:, :, None] / model.radius, x[:, None, :] / model.radius)[:modes]
    inside = [jnp.broadcast_to(mode, (*y.shape, x.shape[1])).reshape(flat) for mode in modes_of]
    top = height + sum(
        (state.heights[:, 2 + m, None] * mode for m, mode in enumerate(inside)),
        jnp.zeros(()),
    )
    by_position = jnp.stack([jnp.maximum(top, 0.1 * height) * slope for slope in slopes], axis=1)
    by_height = jnp.stack([disk, patches.background, *(disk * mode for mode in inside)], axis=1)
    return by_position, by_height


def first_heights(
    patches: Patches, positions: Array, model: LatticeModel, scale: Scalar, modes: int
) -> Array:
    """Heights of disk and background at first sight, and no texture."""
    disk, background, _ = mean_heights(patches, positions, model)
    disk = jnp.maximum(disk, FAINTEST * model.intensity * scale)
    zeros = jnp.zeros((len(disk), modes))
    return jnp.concatenate([disk[:, None], jnp.maximum(background, FLOOR)[:, None], zeros], axis=1)


class _Normal(NamedTuple):
    """Normal equations of every reflection, position first, then heights; priors included."""

    gram: Array  # (n, 2 + k, 2 + k)
    score: Array  # (n, 2 + k)
    dispersion: Array


class _Eliminated(NamedTuple):
    """Normal equations of every disk's position, and the heights that follow from it."""

    information: Array  # (n, 2, 2)
    score: Array  # (n, 2)
    solved: Array  # (n, k, 3): change of the heights by the position, and at the same position


def _normal_equations(
    state: _State, patches: Patches, model: LatticeModel, edge: Scalar, scale: Scalar
) -> _Normal:
    heights = state.heights
    by_position, by_height = _shapes(state, patches, model, edge, heights.shape[1] - 2)
    expected = jnp.einsum("nk,nkp->np", heights, by_height) + FLOOR
    # Weights of flat disks: with texture the expected counts may come near zero, or below.
    flat = jnp.einsum("nk,nkp->np", heights[:, :2], by_height[:, :2]) + FLOOR
    weight = patches.used / model.detector.noise.variance(flat)
    residual = (patches.counts - expected) * weight
    columns = jnp.concatenate([by_position, by_height], axis=1)
    gram = jnp.einsum("nip,njp->nij", columns * weight[:, None], columns)
    score = jnp.einsum("nip,np->ni", columns, residual)
    gram, score = _add_priors(gram, score, heights, model, scale)
    counted = jnp.sum(patches.used, axis=1)
    dispersion = jnp.sum((patches.counts - expected) * residual, axis=1) / jnp.maximum(
        counted - heights.shape[1] - 2, 1.0
    )
    return _Normal(gram, score, dispersion)


def _eliminate(normal: _Normal) -> _Eliminated:
    """Schur complement of the heights."""
    gram, score = normal.gram, normal.score
    solved, _ = solve_small(
        gram[:, 2:, 2:], jnp.concatenate([gram[:, 2:, :2], score[:, 2:, None]], axis=2)
    )
    across = gram[:, :2, 2:]
    information = gram[:, :2, :2] - across @ solved[:, :, :2]
    return _Eliminated(information, score[:, :2] - (across @ solved[:, :, 2:])[..., 0], solved)


def _join(disks: _Eliminated, model: LatticeModel) -> tuple[Array, Array]:
    """Information and gradient of the lattice."""
    moves, share = lattice_moves(model), 1 / model.dispersion
    information, score = disks.information, disks.score
    if model.scatter is not None:
        widths = jnp.sqrt(model.scatter)
        information = information / (widths[:, :, None] * widths[:, None, :])
        score = score / model.scatter
    information = jnp.einsum("nia,nij,njb,n->ab", moves, information, moves, share)
    return information, jnp.einsum("nia,ni,n->a", moves, score, share)


def _step(
    state: _State, patches: Patches, model: LatticeModel, edge: Scalar, scale: Scalar
) -> tuple[_State, tuple[Array, Array, Array, Array]]:
    """One iteration of Fisher scoring."""
    normal = _normal_equations(state, patches, model, edge, scale)
    disks = _eliminate(normal)
    move = _move_of(*_join(disks, model), model, edge)
    heights = state.heights + disks.solved[:, :, 2]
    heights = heights - jnp.einsum("nki,ni->nk", disks.solved[:, :, :2], move.shift)
    return move.applied(state, heights), (
        move.information,
        normal.dispersion,
        move.longest,
        move.errors,
    )


def _joined_step(
    state: _State, patches: Patches, model: LatticeModel, edge: Scalar, scale: Scalar
) -> tuple[_State, tuple[Array, Array, Array, Array]]:
    """The same where pixels are owned by a sum of disks."""
    place, prior = (state.center, state.distortion), typical_heights(model, scale)
    found = joined_equations(place, state.heights, patches, model, edge, prior)
    move = _move_of(found.information, found.gradient, model, edge)
    heights = state.heights + found.change - found.by_lattice @ move.change
    return move.applied(state, heights), (
        move.information,
        found.dispersion,
        move.longest,
        move.errors,
    )


class _Move(NamedTuple):
    information: Array
    change: Array  # of center and distortion, damped
    shift: Array  # of the reflections
    longest: Array  # of them, before damping
    errors: Array  # standard errors of the change

    def applied(self, state: _State, heights: Array) -> _State:
        center, distortion = _split(self.change)
        return _State(
            state.center + center,
            state.distortion + distortion,
            jnp.maximum(heights, _lowest(heights.shape[1])),
        )


def _move_of(information: Array, gradient: Array, model: LatticeModel, edge: Scalar) -> _Move:
    # Of blurred edges, which real ones, being steeper, overshoot: both slopes taken as Gaussian.
    overshoot = jnp.sqrt(2 / (1 + (model.edge_width / edge) ** 2))
    change = _newton_step(information, gradient) / overshoot
    errors = jnp.sqrt(jnp.maximum(change @ information @ change, 1e-30) / len(change))
    shift = jnp.einsum("nia,a->ni", lattice_moves(model), change)
    # Where nothing moves, the root has no slope.
    longest = jnp.sqrt(jnp.max(jnp.sum(shift**2, axis=1)) + 1e-30)
    damping = jnp.minimum(1.0, LONGEST_STEP * model.radius / jnp.maximum(longest, 1e-9))
    return _Move(information, damping * change, damping * shift, longest, errors)


def _lowest(count: int) -> Array:
    """Lower limits of the heights: disk and background cannot be negative, textures can."""
    return jnp.full(count, -jnp.inf).at[:2].set(FLOOR)


def height_scale(pattern: Pattern, model: LatticeModel) -> Scalar:
    """Height of a disk that holds all of the pattern's electrons."""
    return pattern_dose(pattern, model.detector) / (jnp.pi * model.radius**2)


def _unknowns(state: _State) -> Unknowns:
    return Unknowns(jnp.concatenate([state.center, state.distortion.T.ravel()]), state.heights)


def _split(lattice: Array) -> tuple[Array, Array]:
    """Center and distortion of (c_y, c_x, A_00, A_10, A_01, A_11)."""
    return lattice[:2], lattice[2:].reshape(2, 2).T


def typical_heights(model: LatticeModel, scale: Scalar) -> tuple[Array, Array]:
    """Typical heights of the disks, and the precision with which they are known."""
    return model.intensity * scale, 1 / jnp.maximum(model.spread * scale, 1e-6) ** 2


def _add_priors(
    gram: Array, score: Array, heights: Array, model: LatticeModel, scale: Scalar
) -> tuple[Array, Array]:
    """Gaussian priors of the heights: typical intensity, typical texture."""
    typical, precision = typical_heights(model, scale)
    gram = gram.at[:, 2, 2].add(precision)
    score = score.at[:, 2].add(precision * (typical - heights[:, 0]))
    modes = heights.shape[1] - 2
    if modes:
        precision = 1 / jnp.maximum(model.texture * heights[:, 0], 1e-6) ** 2
        diagonal = jnp.arange(4, 4 + modes)
        gram = gram.at[:, diagonal, diagonal].add(precision[:, None])
        score = score.at[:, 4:].add(-precision[:, None] * heights[:, 2:])
    return gram, score


def _newton_step(information: Array, gradient: Array) -> Array:
    """Solve in scaled parameters; a direction without information stays where it is."""
    scale = jnp.sqrt(jnp.maximum(jnp.diagonal(information), 1e-12))
    scaled = information / scale[:, None] / scale[None, :] + 1e-6 * jnp.eye(len(scale))
    return solve_small(scaled[None], (gradient / scale)[None, :, None])[0][0, :, 0] / scale


def lattice_deviance(
    pattern: Pattern,
    center: Point,
    distortion: Float[Array, "2 2"],
    model: LatticeModel,
    patch: int,
) -> Float[Array, ""]:
    r"""Mean deviance of the counts per pixel around the reflections, heights at their optimum.

    .. math:: D = \frac{1}{N} \sum_r D(n_r, \lambda_r)

    with the deviance of the detector's noise. The heights of disk and background are linear and fitted by least
    squares in two reweighted steps, so D depends smoothly on position, distortion and everything in the model.

    Args:
        pattern: Counts ``(det_y, det_x)``.
        center: (y, x) in px.
        distortion: A of the lattice.
        model: Shared by the scan.
        patch: Side of the patches in px, odd.

    Returns:
        D, zero for counts that are as expected.

    Example:
        >>> import numpy as np
        >>> from jax4dstem.lattice.model import starting_model
        >>> model = starting_model(np.diag([13.0, 13.0]), np.array([[0, 0], [0, 1], [1, 0]]), 2.5)
        >>> flat = jnp.full((48, 48), 7.0)
        >>> deviance = jax.jit(lattice_deviance, static_argnums=4)
        >>> bool(deviance(flat, jnp.array([24.0, 24.0]), jnp.eye(2), model, 9) < 1e-3)
        True

    Reference: ours; for the deviance see `counts_deviance`.
    """
    total, pixels = total_deviance(pattern, center, distortion, model, patch)
    return total / jnp.maximum(pixels, 1.0)


def total_deviance(
    pattern: Pattern,
    center: Point,
    distortion: Float[Array, "2 2"],
    model: LatticeModel,
    patch: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sum over the pixels whose mean is `lattice_deviance`, of the same arguments, and their number."""
    seen = expected_around(pattern, center, distortion, model, patch)
    patches = seen.patches
    deviance = model.detector.noise.deviance(patches.counts, seen.counts)
    share = (patches.used / model.dispersion[:, None]) * deviance
    return jnp.sum(share), jnp.sum(patches.used)


def position_scatter(
    pattern: Pattern,
    center: Point,
    distortion: Float[Array, "2 2"],
    model: LatticeModel,
    patch: int,
    modes: int = 0,
) -> tuple[Float[Array, "n 2"], Float[Array, "n 2"]]:
    r"""How far single disks are from where the lattice has them, and what the noise explains of that, squared.

    .. math:: s_{ja}^2, \qquad I_{jaa} (1 - h_{ja})

    with score and information of the position of disk j alone along y and x, its heights eliminated, and the share h of the lattice's
    position there that is due to the disk itself. Where a disk's shape is not quite that of the probe, it shows here before the
    counts around it do: shapes that pixels sample too coarsely pull disks towards the pixels, and contrast inside that the
    ``modes`` polynomials do not follow.
    """
    seen = expected_around(pattern, center, distortion, model, patch)
    scale = height_scale(pattern, model)
    place = jnp.asarray(center, float), jnp.asarray(distortion, float)
    flat = jnp.zeros((len(seen.heights), modes))
    heights = jnp.concatenate([seen.heights, flat], axis=1)

    def eliminated(heights: Array) -> _Eliminated:
        state = _State(*place, heights)
        return _eliminate(_normal_equations(state, seen.patches, model, model.edge_width, scale))

    for _ in range(TEXTURE_STEPS if modes else 0):
        heights = jnp.maximum(heights + eliminated(heights).solved[:, :, 2], _lowest(2 + modes))
    disks = eliminated(heights)
    information, moves = _join(disks, model)[0], lattice_moves(model)
    variance = jnp.einsum("nia,ab,nib->ni", moves, solve_scaled(information, jnp.eye(6)), moves)
    own = jnp.diagonal(disks.information, axis1=1, axis2=2)
    by_noise = own * model.dispersion[:, None]
    weight = own / model.dispersion[:, None]
    if model.scatter is not None:
        weight = weight / model.scatter
    return disks.score**2, by_noise * jnp.maximum(1 - weight * variance, 0.0)


class Expected(NamedTuple):
    """What a lattice leads one to expect around its reflections.

    Attributes:
        patches: The pixels.
        counts: Expected in them, ``(n, p)``.
        heights: Of disk and background, at their optimum, ``(n, 2)``.
    """

    patches: Patches
    counts: Float[Array, "n p"]
    heights: Float[Array, "n 2"]


def expected_around(
    pattern: Pattern,
    center: Point,
    distortion: Float[Array, "2 2"],
    model: LatticeModel,
    patch: int,
) -> Expected:
    """Expected counts around the reflections of a lattice, of the arguments of `lattice_deviance`."""
    state = _State(jnp.asarray(center, float), jnp.asarray(distortion, float), None)
    patches = gather_patches(pattern, state.center, state.distortion, model, patch)
    positions = reflection_positions(state.center, state.distortion, model)
    disk, background, _ = mean_heights(patches, positions, model)
    heights = jnp.stack([jnp.maximum(disk, FLOOR), jnp.maximum(background, FLOOR)], axis=1)
    _, shapes = _shapes(state._replace(heights=heights), patches, model, model.edge_width, 0)
    noise = model.detector.noise
    for _ in range(2):
        expected = jnp.einsum("nk,nkp->np", heights, shapes) + FLOOR
        weight = patches.used / jax.lax.stop_gradient(noise.variance(expected))
        gram = jnp.einsum("nip,njp->nij", shapes * weight[:, None], shapes)
        gram = gram + 1e-6 * jnp.eye(2)
        right = jnp.einsum("nip,np->ni", shapes * weight[:, None], patches.counts)
        heights = jnp.maximum(solve_small(gram, right[..., None])[0][..., 0], FLOOR)
    return Expected(patches, jnp.einsum("nk,nkp->np", heights, shapes) + FLOOR, heights)
