"""Maximum-likelihood fit of a lattice of Bragg disks to the counts of one pattern."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax4dstem.lattice.binning import bin_counts, bin_model, bin_point, unbin_point
from jax4dstem.lattice.elimination import solve_small
from jax4dstem.lattice.model import LatticeFit, LatticeModel
from jax4dstem.typing import Array, Float, Pattern, Point, Scalar

FLOOR = 1e-4  # counts per pixel expected everywhere: stray electrons, and no division by zero
LONGEST_STEP = 0.4  # disk radii that a reflection may move in one iteration


@dataclass(frozen=True)
class FitLattice:
    r"""Pattern function: Fisher scoring of center and distortion on the Poisson likelihood.

    Around reflection j the expected counts are

    .. math::
        \lambda(r) = a_j \, d(r - r_j) \Bigl(1 + \sum_m t_{jm} z_m(r - r_j)\Bigr) + b_j \, \beta(|r - c|),
        \qquad r_j = c + (h_j, k_j)\, G_\mathrm{ref} A ,

    with the soft-edged disk d, low-order polynomials z inside it (``modes`` of them) and the radial
    background β, whose height is free and whose slope is not. A pixel belongs to the cell of the
    nearest reflection. The heights a, t, b of each disk are eliminated exactly from the Fisher
    information (Schur complement), which leaves for every disk the information on its position, a
    2 x 2 matrix; the lattice joins them in the 6 x 6 information on (c, A). Heights have Gaussian
    priors of the scan's typical intensities. The first iterations run with blurred edges, which
    widens the capture range to about a disk radius, and on binned pixels, which blurred edges do not miss.

    Attributes:
        window: Side of the windows around the reflections, in px, odd.
        modes: Polynomials inside the disks: 0 (flat), 2 (slopes) or 5 (and curvatures).
        binning: Pixels joined along an axis during the coarse iterations; see `search_binning`.
        coarse: Iterations with blurred edges.
        fine: Iterations with the model's own edges.
    """

    window: int
    modes: int = 0
    binning: int = 1
    coarse: int = 4
    fine: int = 2

    def __call__(
        self, pattern: Pattern, center: Point, distortion: Float[Array, "2 2"], model: LatticeModel
    ) -> LatticeFit:
        """Fit from a start.

        Args:
            pattern: Raw counts ``(det_y, det_x)``; negative or NaN pixels are left out.
            center: (y, x) in px.
            distortion: A.
            model: Shared by the scan.

        Returns:
            The fit; NaN for a pattern without counts.
        """
        dose = pattern_dose(pattern)
        area = jnp.pi * model.radius**2
        state = _State(jnp.asarray(center, float), jnp.asarray(distortion, float), None)
        state = self._coarse_fit(pattern, state, model, dose / area)
        data = _gather(pattern, state, model, self.window)
        edges = jnp.broadcast_to(model.edge_width, self.fine)
        state, results = self._iterate(state, data, model, edges, dose / area)
        information, dispersion, longest = jax.tree.map(lambda leaf: leaf[-1], results)
        scale = area / dose
        heights = state.heights
        return LatticeFit(
            state.center,
            state.distortion,
            information,
            heights[:, 0] * scale,
            dispersion,
            jnp.sum(heights[:, 2:] ** 2, axis=1) / heights[:, 0] ** 2,
            jnp.asarray(0.0),
            longest,
        )

    def _coarse_fit(
        self, pattern: Pattern, state: "_State", model: LatticeModel, scale: Scalar
    ) -> "_State":
        """The iterations with blurred edges, on binned pixels; heights are those of full pixels again."""
        factor = self.binning
        pattern = bin_counts(pattern, model.saturation, factor)
        model, scale = bin_model(model, factor), scale * factor**2
        state = state._replace(center=bin_point(state.center, factor))
        data = _gather(pattern, state, model, 2 * -(-(self.window // 2) // factor) + 1)
        heights = _first_heights(data, state, model, scale, self.modes)
        blurs = jnp.linspace(0.3, 0.15, self.coarse) * model.radius
        blurs = jnp.maximum(blurs, model.edge_width)
        state, _ = self._iterate(state._replace(heights=heights), data, model, blurs, scale)
        center = unbin_point(state.center, factor)
        return state._replace(center=center, heights=state.heights / factor**2)

    @staticmethod
    def _iterate(
        state: "_State", data: "_Windows", model: LatticeModel, edges: Array, scale: Scalar
    ) -> Any:
        return jax.lax.scan(lambda s, edge: _step(s, data, model, edge, scale), state, edges)


class _State(NamedTuple):
    center: Array
    distortion: Array
    heights: Any  # (n, 2 + modes): disk, background, texture; None before they are known


class _Windows(NamedTuple):
    """Pixels around the reflections, flattened."""

    counts: Float[Array, "n p"]
    used: Float[Array, "n p"]
    y: Float[Array, "n p"]
    x: Float[Array, "n p"]
    background: Float[Array, "n p"]


def _positions(state: _State, model: LatticeModel) -> Array:
    return state.center + model.indices @ model.lattice(state.distortion)


def _gather(pattern: Array, state: _State, model: LatticeModel, window: int) -> _Windows:
    """The counts around the reflections, which of them belong to each, and the background there."""
    positions = _positions(state, model)
    window = min(window, *pattern.shape)
    # At the rim the window moves inward, where it still holds every pixel around the reflection.
    corner = jnp.floor(positions + 0.5).astype(int) - window // 2
    corner = jnp.clip(corner, 0, jnp.asarray(pattern.shape) - window)
    # Slices are copied faster than pixels.
    counts = jax.vmap(lambda at: jax.lax.dynamic_slice(pattern, at, (window, window)))(corner)
    offsets = jnp.arange(window)
    shape = counts.shape
    y = jnp.broadcast_to((corner[:, :1] + offsets)[:, :, None], shape).astype(float)
    x = jnp.broadcast_to((corner[:, 1:] + offsets)[:, None, :], shape).astype(float)
    counts = counts.astype(float)
    cell = jnp.linalg.inv(model.lattice(state.distortion))
    dy, dx = y - positions[:, :1, None], x - positions[:, 1:, None]
    own = (jnp.abs(dy * cell[0, 0] + dx * cell[1, 0]) <= 0.5) & (
        jnp.abs(dy * cell[0, 1] + dx * cell[1, 1]) <= 0.5
    )
    used = own & (counts >= 0) & (counts < model.saturation)
    distance = jnp.sqrt((y - state.center[0]) ** 2 + (x - state.center[1]) ** 2 + 1e-6)
    background = _local_background(model.background, distance, positions - state.center)

    def flat(values: Array) -> Array:
        return values.reshape(len(positions), -1)

    used = flat(used.astype(float))
    counts = jnp.where(used > 0, flat(counts), 0.0)
    return _Windows(counts, used, flat(y), flat(x), flat(background))


def _local_background(profile: Array, distance: Array, offsets: Array) -> Array:
    """The profile around each reflection, relative to its value there.

    Its logarithm to second order in the logarithm of the radius: exact for every power law.
    """
    radius = jnp.sqrt(jnp.sum(offsets**2, axis=1) + 1e-6)
    radii = jnp.arange(profile.shape[0], dtype=float)
    logarithm = jnp.log(jnp.maximum(profile, 1e-30))
    slope = jnp.asarray(jnp.gradient(logarithm)) * radii
    bend = jnp.asarray(jnp.gradient(slope)) * radii
    slope = jnp.clip(interpolate_profile(slope, radius), -10.0, 10.0)[:, None, None]
    bend = jnp.clip(interpolate_profile(bend, radius), -10.0, 10.0)[:, None, None]
    origin = jnp.maximum(radius, 1.0)[:, None, None]
    step = jnp.log(jnp.maximum(distance, 0.3 * origin) / origin)
    return jnp.exp(jnp.clip(step * (slope + 0.5 * bend * step), -8.0, 8.0))


def interpolate_profile(profile: Array, distance: Array) -> Array:
    """A profile at 0, 1, 2... px, linear between and constant beyond."""
    last = profile.shape[0] - 1
    lower = jnp.clip(jnp.floor(distance), 0, last - 1)
    fraction = jnp.clip(distance - lower, 0.0, 1.0)
    index = lower.astype(int)
    return profile[index] * (1 - fraction) + profile[index + 1] * fraction


def _shapes(
    state: _State, data: _Windows, model: LatticeModel, edge: Scalar, modes: int
) -> tuple[Array, Array]:
    """Derivatives of the expected counts: by position ``(n, 2, p)``, by heights ``(n, 2 + modes, p)``."""
    positions = _positions(state, model)
    y, x = data.y - positions[:, :1], data.x - positions[:, 1:]
    distance = jnp.sqrt(y**2 + x**2 + 1e-6)
    disk = jax.nn.sigmoid((model.radius - distance) / edge)
    height = state.heights[:, :1]
    inside = _polynomials(y / model.radius, x / model.radius)[:modes]
    top = height + sum(
        (state.heights[:, 2 + m, None] * mode for m, mode in enumerate(inside)),
        jnp.zeros(()),
    )
    slope = jnp.maximum(top, 0.1 * height) * disk * (1 - disk) / (edge * distance)
    by_position = jnp.stack([slope * y, slope * x], axis=1)
    by_height = jnp.stack([disk, data.background, *(disk * mode for mode in inside)], axis=1)
    return by_position, by_height


def _polynomials(y: Array, x: Array) -> list[Array]:
    """Slopes and curvatures over a disk of radius 1, of mean square 1 and zero mean."""
    square = y**2 + x**2
    return [2 * y, 2 * x, 3**0.5 * (2 * square - 1), 6**0.5 * (y**2 - x**2), 24**0.5 * y * x]


def _first_heights(
    data: _Windows, state: _State, model: LatticeModel, scale: Scalar, modes: int
) -> Array:
    """Height of disk and background from the means inside and outside a slightly larger disk."""
    disk, background, _ = _contrast(data, state, model)
    disk = jnp.maximum(disk, 0.1 * model.intensity * scale)
    zeros = jnp.zeros((len(disk), modes))
    return jnp.concatenate([disk[:, None], jnp.maximum(background, FLOOR)[:, None], zeros], axis=1)


def _contrast(data: _Windows, state: _State, model: LatticeModel) -> tuple[Array, Array, Array]:
    """Heights of disk and background, and how much of the disk's middle is on the detector."""
    positions = _positions(state, model)
    distance = jnp.hypot(data.y - positions[:, :1], data.x - positions[:, 1:])
    inside = data.used * (distance < 0.8 * model.radius)
    outside = data.used * (distance > model.radius + 1)

    def ratio(where: Array, values: Array, by: Array) -> Array:
        return jnp.sum(where * values, axis=1) / jnp.maximum(jnp.sum(where * by, axis=1), 1e-6)

    background = ratio(outside, data.counts, data.background)
    disk = ratio(inside, data.counts - background[:, None] * data.background, jnp.ones(()))
    return disk, background, jnp.sum(inside, axis=1) / (jnp.pi * (0.8 * model.radius) ** 2)


def pattern_dose(pattern: Pattern) -> Scalar:
    """Sum of the counts that are used."""
    return jnp.sum(jnp.maximum(jnp.nan_to_num(pattern.astype(float)), 0.0))


class Intensities(NamedTuple):
    """What the disks of a known lattice hold.

    Attributes:
        share: Of the pattern's electrons above the background, one number per reflection; NaN where less than two
            thirds of the disk are on the detector. Unlike fitted heights it may be negative, so that its mean over
            many patterns is unbiased.
        dose: Electrons of the pattern.
    """

    share: Float[Array, " n"]
    dose: Scalar


@dataclass(frozen=True)
class DiskIntensities:
    """Pattern function: the intensities of a lattice that is known, linear in the counts.

    Attributes:
        window: Side of the windows around the reflections, in px, odd.
    """

    window: int

    def __call__(
        self, pattern: Pattern, center: Point, distortion: Float[Array, "2 2"], model: LatticeModel
    ) -> Intensities:
        """Return `Intensities`.

        Args:
            pattern: Counts ``(det_y, det_x)``.
            center: (y, x) in px.
            distortion: A of the lattice.
            model: Shared by the scan.
        """
        state = _State(jnp.asarray(center, float), jnp.asarray(distortion, float), None)
        data = _gather(pattern, state, model, self.window)
        disk, _, seen = _contrast(data, state, model)
        dose = pattern_dose(pattern)
        share = disk * jnp.pi * model.radius**2 / dose
        return Intensities(jnp.where(seen > 2 / 3, share, jnp.nan), dose)


def _step(
    state: _State, data: _Windows, model: LatticeModel, edge: Scalar, scale: Scalar
) -> tuple[_State, tuple[Array, Array, Array]]:
    """One iteration of Fisher scoring."""
    heights = state.heights
    modes = heights.shape[1] - 2
    by_position, by_height = _shapes(state, data, model, edge, modes)
    expected = jnp.einsum("nk,nkp->np", heights, by_height) + FLOOR
    # Weights of flat disks: with texture the expected counts may come near zero, or below.
    flat = jnp.einsum("nk,nkp->np", heights[:, :2], by_height[:, :2]) + FLOOR
    weight = data.used / flat
    residual = (data.counts - expected) * weight
    columns = jnp.concatenate([by_position, by_height], axis=1)
    gram = jnp.einsum("nip,njp->nij", columns * weight[:, None], columns)
    score = jnp.einsum("nip,np->ni", columns, residual)
    gram, score = _add_priors(gram, score, heights, model, scale)
    solved, _ = solve_small(
        gram[:, 2:, 2:], jnp.concatenate([gram[:, 2:, :2], score[:, 2:, None]], axis=2)
    )
    across = gram[:, :2, 2:]
    disk_information = gram[:, :2, :2] - across @ solved[:, :, :2]
    disk_score = score[:, :2] - (across @ solved[:, :, 2:])[..., 0]
    moves = lattice_moves(model)
    share = 1 / model.dispersion
    information = jnp.einsum("nia,nij,njb,n->ab", moves, disk_information, moves, share)
    gradient = jnp.einsum("nia,ni,n->a", moves, disk_score, share)
    # Of blurred edges, which real ones, being steeper, overshoot: both slopes taken as Gaussian.
    overshoot = jnp.sqrt(2 / (1 + (model.edge_width / edge) ** 2))
    change = _newton_step(information, gradient) / overshoot
    shift = jnp.einsum("nia,a->ni", moves, change)
    longest = jnp.max(jnp.linalg.norm(shift, axis=1))
    damping = jnp.minimum(1.0, LONGEST_STEP * model.radius / jnp.maximum(longest, 1e-9))
    change, shift = damping * change, damping * shift
    heights = heights + solved[:, :, 2] - jnp.einsum("nki,ni->nk", solved[:, :, :2], shift)
    lowest = jnp.full(heights.shape[1], -jnp.inf).at[:2].set(FLOOR)
    counted = jnp.sum(data.used, axis=1)
    dispersion = jnp.sum((data.counts - expected) * residual, axis=1) / jnp.maximum(
        counted - heights.shape[1] - 2, 1.0
    )
    new = _State(
        state.center + change[:2],
        state.distortion + change[2:].reshape(2, 2).T,
        jnp.maximum(heights, lowest),
    )
    return new, (information, dispersion, longest)


def _add_priors(
    gram: Array, score: Array, heights: Array, model: LatticeModel, scale: Scalar
) -> tuple[Array, Array]:
    """Gaussian priors of the heights: typical intensity, typical texture."""
    typical = model.intensity * scale
    precision = 1 / jnp.maximum(model.spread * scale, 1e-6) ** 2
    gram = gram.at[:, 2, 2].add(precision)
    score = score.at[:, 2].add(precision * (typical - heights[:, 0]))
    modes = heights.shape[1] - 2
    if modes:
        precision = 1 / jnp.maximum(model.texture * heights[:, 0], 1e-6) ** 2
        diagonal = jnp.arange(4, 4 + modes)
        gram = gram.at[:, diagonal, diagonal].add(precision[:, None])
        score = score.at[:, 4:].add(-precision[:, None] * heights[:, 2:])
    return gram, score


def lattice_moves(model: LatticeModel) -> Array:
    """Derivative of the reflections' positions by (c_y, c_x, A_00, A_10, A_01, A_11)."""
    nodes = model.indices @ model.vectors
    by_center = jnp.broadcast_to(jnp.eye(2), (len(nodes), 2, 2))
    by_distortion = jnp.einsum("ni,jk->nkji", nodes, model.ellipse)
    return jnp.concatenate([by_center, by_distortion.reshape(-1, 2, 4)], axis=2)


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
    window: int,
) -> Float[Array, ""]:
    r"""Mean Poisson deviance per pixel around the reflections, heights at their optimum.

    .. math:: D = \frac{2}{N} \sum_r \left[n \ln\frac{n}{\lambda} - (n - \lambda)\right]

    The heights of disk and background are linear and fitted by least squares in two reweighted steps, so D
    depends smoothly on position, distortion and everything in the model.

    Args:
        pattern: Counts ``(det_y, det_x)``.
        center: (y, x) in px.
        distortion: A of the lattice.
        model: Shared by the scan.
        window: Side of the windows in px, odd.
    """
    state = _State(jnp.asarray(center, float), jnp.asarray(distortion, float), None)
    data = _gather(pattern, state, model, window)
    disk, background, _ = _contrast(data, state, model)
    heights = jnp.stack([jnp.maximum(disk, FLOOR), jnp.maximum(background, FLOOR)], axis=1)
    _, shapes = _shapes(state._replace(heights=heights), data, model, model.edge_width, 0)
    for _ in range(2):
        expected = jnp.einsum("nk,nkp->np", heights, shapes) + FLOOR
        weight = data.used / jax.lax.stop_gradient(expected)
        gram = jnp.einsum("nip,njp->nij", shapes * weight[:, None], shapes)
        gram = gram + 1e-6 * jnp.eye(2)
        right = jnp.einsum("nip,np->ni", shapes * weight[:, None], data.counts)
        heights = jnp.maximum(solve_small(gram, right[..., None])[0][..., 0], FLOOR)
    expected = jnp.einsum("nk,nkp->np", heights, shapes) + FLOOR
    counts = data.counts
    likelihood = counts * jnp.log(jnp.maximum(counts, 1e-9) / expected) - (counts - expected)
    share = (data.used / model.dispersion[:, None]) * likelihood
    return 2 * jnp.sum(share) / jnp.maximum(jnp.sum(data.used), 1.0)
