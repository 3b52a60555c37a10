"""Conventions: origin, axes, units and signs. No other module knows them.

Arrays have axes ``(scan_y, scan_x, det_y, det_x)``; vectors are stored ``(y, x)``; pixel centers lie
at integer coordinates; a pattern center is a stored fractional ``(y, x)``, never an assumed N/2.
Angles are in radians, counter-clockwise on the screen, where y points down.
"""

from dataclasses import dataclass, replace
from math import cos, cosh, hypot, pi, sin, sinh, sqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.typing import Array, Float, Scalar


@dataclass(frozen=True)
class Calibration:
    """Physical scales of a dataset; ``None`` means not calibrated.

    Attributes:
        pixel_inv_angstrom: Detector pixel in Å⁻¹, with k = sin α / λ (no 2π); along x where y differs.
        scan_step_nm: Distance between scan positions in nm; along x where y differs.
        energy_kv: Beam energy in kV.
        scan_rotation: Rotation from scan to detector axes in radians.
        scan_flip: True when the detector y axis is mirrored against the scan.
        pixel_y_inv_angstrom: Detector pixel along y in Å⁻¹ where it differs from that along x.
        scan_step_y_nm: Distance between scan rows in nm where it differs from that between columns.
        ellipse: (a, b) of the projector lenses' distortion :math:`L = \\exp \\begin{pmatrix} -a & b \\\\ b & a \\end{pmatrix}`
            of row vectors (y, x) on a detector with square pixels: a stretches along x and shrinks along y, b does the
            same along the diagonals. Its determinant is 1, as lengths are the pixel's.

    Example:
        >>> Calibration(pixel_inv_angstrom=0.016).binned(2).pixel_inv_angstrom
        0.032
    """

    pixel_inv_angstrom: float | None = None
    scan_step_nm: float | None = None
    energy_kv: float | None = None
    scan_rotation: float = 0.0
    scan_flip: bool = False
    pixel_y_inv_angstrom: float | None = None
    scan_step_y_nm: float | None = None
    ellipse: tuple[float, float] = (0.0, 0.0)

    @property
    def to_detector(self) -> np.ndarray:
        r"""What the microscope makes of row vectors (y, x) in scan axes, on the detector in px.

        .. math:: g_{\mathrm{px}} = g \, M R(\omega)^{\mathsf T} L P^{-1}

        First the flip M mirrors y, then R turns by the scan rotation ω, then the ellipse L, last P, the pixel's height over
        its width. Vectors in scan axes are measured in widths of a pixel, `reciprocal_units` makes them 1/Å.

        Example:
            >>> Calibration(0.025, pixel_y_inv_angstrom=0.02).to_detector.round(3).tolist()
            [[1.25, 0.0], [0.0, 1.0]]
        """
        c, s = cos(self.scan_rotation), sin(self.scan_rotation)
        mirror = np.diag([-1.0 if self.scan_flip else 1.0, 1.0])
        return (
            mirror
            @ [[c, s], [-s, c]]
            @ ellipse_matrix(*self.ellipse)
            @ np.diag([1 / self.pixel_aspect, 1.0])
        )

    @property
    def to_scan_axes(self) -> np.ndarray:
        """The inverse of `to_detector`: takes row vectors on the detector in px to scan axes, undistorted.

        Example:
            >>> quarter = Calibration(scan_rotation=pi / 2).to_scan_axes
            >>> (np.array([-1.0, 0.0]) @ quarter).round(3).tolist()  # up on the detector: the scan's x axis
            [-0.0, 1.0]
        """
        return np.linalg.inv(self.to_detector)

    @property
    def pixel_aspect(self) -> float:
        """Height of a pixel over its width."""
        if self.pixel_y_inv_angstrom is None or self.pixel_inv_angstrom is None:
            return 1.0
        return self.pixel_y_inv_angstrom / self.pixel_inv_angstrom

    @property
    def in_words(self) -> tuple[str, str]:
        """Scan step and detector pixel with units, in y and x where they differ.

        Example:
            >>> Calibration(0.02, 3.0, scan_step_y_nm=2.0).in_words
            ('2 x 3 nm', '0.02 1/Å')
        """
        (step, step_unit), (pixel, pixel_unit) = self.scan_units, self.reciprocal_units
        step_y, pixel_y = self.scan_step_y_nm, self.pixel_y_inv_angstrom
        steps = f"{step:g}" if step_y is None else f"{step_y:g} x {step:g}"
        pixels = f"{pixel:g}" if pixel_y is None else f"{pixel_y:g} x {pixel:g}"
        return f"{steps} {step_unit}", f"{pixels} {pixel_unit}"

    def every(self, rows: int, cols: int) -> "Calibration":
        """Return the calibration of a scan of every so many rows and columns.

        Example:
            >>> Calibration(scan_step_nm=2.0).every(1, 3).in_words[0]
            '2 x 6 nm'
        """
        step, step_y = self.scan_step_nm, self.scan_step_y_nm
        step_y = _times(rows, step if step_y is None else step_y)
        step = _times(cols, step)
        return replace(self, scan_step_nm=step, scan_step_y_nm=None if step_y == step else step_y)

    def binned(self, factor: int) -> "Calibration":
        """Return the calibration after summing ``factor`` x ``factor`` detector pixels."""
        return replace(
            self,
            pixel_inv_angstrom=_times(factor, self.pixel_inv_angstrom),
            pixel_y_inv_angstrom=_times(factor, self.pixel_y_inv_angstrom),
        )

    def binned_scan(self, factor: int) -> "Calibration":
        """Return the calibration after summing ``factor`` x ``factor`` scan positions."""
        return replace(
            self,
            scan_step_nm=_times(factor, self.scan_step_nm),
            scan_step_y_nm=_times(factor, self.scan_step_y_nm),
        )

    @property
    def reciprocal_units(self) -> tuple[float, str]:
        """Factor from pixels to the reciprocal unit, and the unit's name."""
        if self.pixel_inv_angstrom is None:
            return 1.0, "px"
        return self.pixel_inv_angstrom, "1/Å"

    @property
    def scan_units(self) -> tuple[float, str]:
        """Factor from scan positions to the scan unit, and the unit's name."""
        if self.scan_step_nm is None:
            return 1.0, "positions"
        return self.scan_step_nm, "nm"

    @property
    def scan_steps(self) -> tuple[tuple[float, float], str]:
        """Distance between rows and between columns of the scan, and the name of its unit.

        Example:
            >>> Calibration(scan_step_nm=3.0, scan_step_y_nm=2.0).scan_steps, Calibration().scan_steps
            (((2.0, 3.0), 'nm'), ((1.0, 1.0), 'position'))
        """
        if self.scan_step_nm is None:
            return (1.0, 1.0), "position"
        step_y = self.scan_step_nm if self.scan_step_y_nm is None else self.scan_step_y_nm
        return (step_y, self.scan_step_nm), "nm"

    def quefrency_step(self, size: int) -> tuple[float, str]:
        """Quefrency of one cepstrum pixel of a transform over ``size`` detector pixels.

        A pattern of ``size`` pixels of width Δk has the discrete Fourier conjugate spacing

        .. math:: \\Delta r = 1 / (N \\, \\Delta k).

        Args:
            size: Number of detector pixels N along the axis.

        Returns:
            The spacing in Å, or 1 with the unit "px" when the detector is not calibrated.
        """
        if self.pixel_inv_angstrom is None:
            return 1.0, "px"
        return 1.0 / (size * self.pixel_inv_angstrom), "Å"


def _times(factor: int, length: float | None) -> float | None:
    return None if length is None else factor * length


def detector_grid(
    shape: tuple[int, ...],
) -> tuple[Float[Array, "det_y 1"], Float[Array, "1 det_x"]]:
    """Coordinates of the pixel centers, as a column of y and a row of x.

    Args:
        shape: ``(det_y, det_x)``.

    Returns:
        ``(det_y, 1)`` and ``(1, det_x)``, in px.

    Example:
        >>> y, x = detector_grid((2, 3))
        >>> (y + x).shape
        (2, 3)
    """
    return jnp.arange(shape[0], dtype=float)[:, None], jnp.arange(shape[1], dtype=float)[None, :]


def radius_from(center: Float[Array, "2"], shape: tuple[int, ...]) -> Float[Array, "det_y det_x"]:
    """Distance of every pixel from ``center`` (y, x), in pixels; its gradient is finite everywhere.

    Args:
        center: ``(y, x)`` in px.
        shape: ``(det_y, det_x)``.

    Returns:
        ``(det_y, det_x)`` in px.

    Example:
        >>> radius_from(jnp.array([0.0, 1.0]), (1, 3)).tolist()
        [[1.0, 0.0, 1.0]]
    """
    y, x = detector_grid(shape)
    return length((y - center[0]) ** 2 + (x - center[1]) ** 2)


def length(squared: Float[Array, "..."]) -> Float[Array, "..."]:
    """Root of a squared length; its gradient is finite everywhere, zero at length zero.

    Args:
        squared: Any shape, not negative.

    Returns:
        The same shape.

    Example:
        >>> import jax
        >>> length(jnp.array([0.0, 9.0])).tolist(), jax.grad(length)(0.0).item()
        ([0.0, 3.0], 0.0)
    """
    at_origin = squared == 0  # the derivative of sqrt is infinite there
    return jnp.where(at_origin, 0.0, jnp.sqrt(jnp.where(at_origin, 1.0, squared)))


def ellipse_matrix(a: float, b: float) -> np.ndarray:
    """Distortion L = exp [[-a, b], [b, a]] of row vectors (y, x): symmetric, with determinant 1; see `Calibration`.

    Args:
        a: Stretch along x, and compression along y.
        b: The same along the diagonals.

    Returns:
        L, ``(2, 2)``.

    Example:
        >>> ellipse_matrix(0.02, 0.0).round(4).tolist()
        [[0.9802, 0.0], [0.0, 1.0202]]
    """
    size = hypot(a, b)
    slope = sinh(size) / size if size else 1.0
    return cosh(size) * np.eye(2) + slope * np.array([[-a, b], [b, a]])


def ellipse_of(matrix: np.ndarray) -> tuple[float, float]:
    """(a, b) of a symmetric, positive definite matrix; its determinant does not matter.

    Args:
        matrix: ``(2, 2)``.

    Returns:
        a and b, as `ellipse_matrix` takes them.

    Example:
        >>> [round(value, 6) for value in ellipse_of(3 * ellipse_matrix(0.02, -0.01))]
        [0.02, -0.01]
    """
    values, vectors = np.linalg.eigh(matrix)
    logarithm = vectors @ np.diag(np.log(values)) @ vectors.T
    return float(logarithm[1, 1] - logarithm[0, 0]) / 2, float(logarithm[0, 1])


def wrap_angle(theta: Any, period: Any) -> Any:
    """Angle, or difference of angles, modulo a period: in (−period / 2, period / 2]; NumPy or JAX.

    Args:
        theta: In the unit of the period, any shape.
        period: Such as 2π.

    Returns:
        The same shape.

    Example:
        >>> [round(wrap_angle(theta, 2.0), 6) for theta in (3.1, -1.0, 0.4)]
        [-0.9, 1.0, 0.4]
    """
    return theta + period * ((0.5 - theta / period) // 1)


def rotation_period(symmetry: int) -> float:
    """What a lattice's rotation is known modulo, in radians.

    Args:
        symmetry: Rotational symmetry of the lattice.

    Returns:
        2π over the symmetry.

    Example:
        >>> round(rotation_period(6), 4)
        1.0472
    """
    return 2 * pi / symmetry


def electron_wavelength(energy_kv: float) -> float:
    r"""Relativistic wavelength of the beam electrons in Å.

    .. math:: \lambda = \frac{h}{\sqrt{2 m_0 e U \left(1 + e U / 2 m_0 c^2\right)}}

    Args:
        energy_kv: Beam energy in kV.

    Returns:
        The wavelength in Å.

    Example:
        >>> round(electron_wavelength(200.0), 5)
        0.02508

    Reference: Reimer and Kohl, Transmission Electron Microscopy, 5th ed., Springer (2008).
    """
    volts = 1e3 * energy_kv
    return 12.264259 / sqrt(volts * (1 + 0.97847644e-6 * volts))


def rotation_matrix(theta: Scalar) -> Float[Array, "2 2"]:
    r"""Rotation of (y, x) vectors, counter-clockwise on the screen.

    .. math:: R = \begin{pmatrix} \cos\theta & -\sin\theta \\ \sin\theta & \cos\theta \end{pmatrix}

    Args:
        theta: In radians.

    Returns:
        ``(2, 2)``, on column vectors (y, x).

    Example:
        >>> import jax.numpy as jnp
        >>> right = jnp.array([0.0, 1.0])
        >>> (rotation_matrix(jnp.pi / 2) @ right).round(3).tolist()  # up: y points down
        [-1.0, -0.0]

    Reference: the definition of a rotation, where y points down.
    """
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    return jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])


def deformation(e_xx: Scalar, e_yy: Scalar, e_xy: Scalar, theta: Scalar) -> Float[Array, "2 2"]:
    r"""Deformation gradient that maps real-space lattice vectors, :math:`a' = F a`.

    .. math:: F = (I + E) R(\theta), \qquad
        E = \begin{pmatrix} e_{yy} & e_{xy} \\ e_{xy} & e_{xx} \end{pmatrix}

    on (y, x) vectors: first the rotation, then the strain, in the axes of the scan.

    Args:
        e_xx: Strain along x (to the right); tension is positive.
        e_yy: Strain along y (down).
        e_xy: Tensor shear strain, half of the change of a right angle.
        theta: Rotation in radians, counter-clockwise on the screen.

    Returns:
        F, to act on (y, x) column vectors; `strain_of` is the inverse.

    Example:
        >>> import jax.numpy as jnp
        >>> (deformation(0.1, 0.0, 0.0, 0.0) @ jnp.array([3.0, 5.0])).tolist()  # 10 % along x
        [3.0, 5.5]

    Reference: the definition of a deformation gradient; the order of strain and rotation is ours.
    """
    e_xx, e_yy, e_xy, theta = (jnp.asarray(value, float) for value in (e_xx, e_yy, e_xy, theta))
    stretch = jnp.stack([jnp.stack([1 + e_yy, e_xy]), jnp.stack([e_xy, 1 + e_xx])])
    return stretch @ rotation_matrix(theta)


class Strain(NamedTuple):
    """Finite strain and rotation, all of the same shape; see `deformation` for axes and signs.

    Attributes:
        e_xx: Along x, tension positive.
        e_yy: Along y.
        e_xy: Tensor shear strain.
        theta: Rotation in radians, counter-clockwise.
    """

    e_xx: Float[Array, "..."]
    e_yy: Float[Array, "..."]
    e_xy: Float[Array, "..."]
    theta: Float[Array, "..."]


def strain_of(gradient: Float[Array, "2 2"]) -> Strain:
    r"""Strain and rotation of a deformation gradient, by left polar decomposition.

    .. math:: F = (I + E) R, \qquad \theta = \operatorname{atan2}(F_{10} - F_{01}, F_{00} + F_{11}),
        \qquad E = F R^{\mathsf T} - I .

    In two dimensions the rotation has this closed form, so the decomposition is smooth in F
    wherever det F > 0.

    Args:
        gradient: F on (y, x) vectors.

    Returns:
        The strain, such that ``deformation(*strain_of(F))`` is F.

    Example:
        >>> [round(float(value), 3) for value in strain_of(deformation(0.01, -0.02, 0.005, 0.3))]
        [0.01, -0.02, 0.005, 0.3]

    Reference: Gurtin, An Introduction to Continuum Mechanics, Academic Press (1981), for the decomposition.
    """
    theta = jnp.arctan2(gradient[1, 0] - gradient[0, 1], gradient[0, 0] + gradient[1, 1])
    stretch = gradient @ rotation_matrix(theta).T
    return Strain(stretch[1, 1] - 1, stretch[0, 0] - 1, stretch[0, 1], theta)


def strain_in_scan_axes(
    strain: Float[Any, "... 4"], calibration: Calibration
) -> Float[Any, "... 4"]:
    r"""Strain of patterns as they lie on the detector, as one of the specimen in scan axes.

    .. math:: F = (T F_d^{-1} T^{-1})^{-1}

    with T from scan axes to the detector, which takes row vectors of reciprocal space.

    Args:
        strain: (e_xx, e_yy, e_xy, theta) in detector axes.
        calibration: See `Calibration.to_detector`.

    Returns:
        The strain in scan axes, of the same shape.

    Example:
        >>> flipped = strain_in_scan_axes(np.array([0.0, 0.0, 0.01, 0.2]), Calibration(scan_flip=True))
        >>> bool(np.allclose(flipped, [0.0, 0.0, -0.01, -0.2], atol=1e-6))
        True

    Reference: ours.
    """
    to_detector, to_scan = map(jnp.asarray, (calibration.to_detector, calibration.to_scan_axes))

    def one(components: Array) -> Array:
        return jnp.stack(strain_of(to_detector @ deformation(*components) @ to_scan))

    found = jax.vmap(one)(jnp.asarray(strain, float).reshape(-1, 4))
    return np.asarray(found).reshape(np.shape(strain))


def reciprocal_basis(basis: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    r"""Reciprocal basis vectors as rows, :math:`a_i \cdot g_j = \delta_{ij}` (no 2π).

    Args:
        basis: Basis vectors as rows (y, x); its own inverse when applied twice.

    Returns:
        ``(2, 2)``, g1 and g2 as rows (y, x), in one over the unit of the basis.

    Example:
        >>> import jax.numpy as jnp
        >>> reciprocal_basis(jnp.diag(jnp.array([2.0, 4.0]))).tolist()
        [[0.5, 0.0], [0.0, 0.25]]
    """
    return jnp.linalg.inv(basis).T


def deform(vectors: Float[Array, "n 2"], gradient: Float[Array, "2 2"]) -> Float[Array, "n 2"]:
    r"""Reciprocal vectors of a deformed lattice, :math:`g' = F^{-\mathsf T} g`.

    Args:
        vectors: Reciprocal vectors as rows (y, x), in any unit.
        gradient: F of real space, from `deformation`; tension shortens reciprocal vectors.

    Returns:
        The deformed vectors as rows.

    Example:
        >>> import jax.numpy as jnp
        >>> stretched = deform(jnp.array([[0.0, 51.0]]), deformation(0.02, 0.0, 0.0, 0.0))
        >>> stretched.round(2).tolist()
        [[0.0, 50.0]]
    """
    return vectors @ jnp.linalg.inv(gradient)


__all__ = [
    "Calibration",
    "Strain",
    "deform",
    "deformation",
    "detector_grid",
    "electron_wavelength",
    "ellipse_matrix",
    "ellipse_of",
    "length",
    "radius_from",
    "reciprocal_basis",
    "rotation_matrix",
    "rotation_period",
    "strain_in_scan_axes",
    "strain_of",
    "wrap_angle",
]
