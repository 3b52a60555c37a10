"""An autoencoder that separates orientation from content: rotated patterns share one code.

A rotation is a shift along the angle of the pattern in polar coordinates. The encoder sees only what such
shifts leave unchanged, so the code is invariant by construction; the decoder makes an unrotated pattern,
and the angle is the maximum of its circular correlation with the pattern, in closed form. No angle is
regressed, so there is nothing to get stuck in.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import nnx

from jax4dstem.maxima import parabola_vertex
from jax4dstem.models.autoencoder import VariationalAutoEncoder
from jax4dstem.models.layers import Dense
from jax4dstem.models.losses import kl_to_standard_normal, mean_squared_error
from jax4dstem.typing import Array, Float


class RotationInvariantVAE(VariationalAutoEncoder):
    """Code and angle of a pattern in polar coordinates, ``(radii, angles)``.

    ``decode`` gives the unrotated pattern, ``__call__`` the one turned to match its input.

    Example:
        >>> model = RotationInvariantSpec((3, 8), latent=2).build(0)
        >>> x = jax.random.uniform(jax.random.key(0), (3, 8))
        >>> bool(jnp.allclose(model.encode(jnp.roll(x, 1, axis=1)), model.encode(x), atol=1e-4))
        True
    """

    def encode(self, x: Float[Array, "radii angles"]) -> Float[Array, " latent"]:
        """Mean code; the same for all rotations of a pattern."""
        return self.posterior(x)[0]

    def posterior(
        self, x: Float[Array, "radii angles"]
    ) -> tuple[Float[Array, " latent"], Float[Array, " latent"]]:
        """Mean and logarithm of the variance of the code."""
        return super().posterior(rotation_invariants(x))

    def angle(self, x: Float[Array, "radii angles"]) -> Float[Array, ""]:
        """Rotation in radians, counter-clockwise, of a pattern against its decoded content."""
        return best_rotation(x, self.decode(self.encode(x)))

    def __call__(self, x: Float[Array, "radii angles"]) -> Float[Array, "radii angles"]:
        """The reconstruction: decoded content, rotated to the pattern."""
        content = self.decode(self.encode(x))
        return rotate_polar(content, best_rotation(x, content))


def rotation_invariants(x: Float[Array, "radii angles"]) -> Float[Array, "parts radii orders"]:
    r"""What a shift along the angle leaves unchanged.

    With the angular Fourier coefficients :math:`F_r(m)` of every ring and their sum over the rings
    :math:`S(m)`: the real and imaginary parts of :math:`F_r(m)\, \overline{S(m)} / |S(m)|`. A rotation
    multiplies both factors by :math:`e^{im\theta}`; all but the common phase of each order is kept.
    """
    coefficients = jnp.fft.rfft(x, axis=1) / x.shape[1]
    total = coefficients.sum(axis=0)
    # The phase of nothing is undefined: where the sum vanishes the product does, too, without NaN.
    size = jnp.sqrt(total.real**2 + total.imag**2 + 1e-12)
    turned = coefficients * jnp.conj(total) / size
    return jnp.stack([turned.real, turned.imag])


def rotate_polar(
    x: Float[Array, "radii angles"], angle: Float[Array, ""] | float
) -> Float[Array, "radii angles"]:
    """Turn a polar pattern counter-clockwise by a shift in Fourier space.

    Args:
        x: ``(radii, angles)``, as `to_polar` gives it.
        angle: In radians.

    Returns:
        The turned pattern, ``(radii, angles)``.

    Example:
        >>> x = jnp.zeros((2, 8)).at[:, 1].set(1.0)
        >>> int(rotate_polar(x, jnp.pi / 2)[0].argmax())  # a quarter of eight angles
        3
    """
    orders = jnp.arange(x.shape[1] // 2 + 1)
    turned = jnp.fft.rfft(x, axis=1) * jnp.exp(-1j * orders * angle)
    return jnp.fft.irfft(turned, x.shape[1], axis=1)


def best_rotation(
    x: Float[Array, "radii angles"], content: Float[Array, "radii angles"]
) -> Float[Array, ""]:
    """Angle that turns ``content`` best onto ``x``: maximum of their circular correlation.

    The maximum over the sampled angles is refined by a parabola through three of them.

    Args:
        x: ``(radii, angles)``.
        content: The same shape.

    Returns:
        The angle in radians, counter-clockwise, 0 to 2π.

    Example:
        >>> content = jnp.cos(2 * jnp.pi * jnp.arange(64) / 64)[None]
        >>> round(float(best_rotation(rotate_polar(content, 1.0), content)), 2)
        1.0
    """
    a, b = jnp.fft.rfft(x, axis=1), jnp.fft.rfft(content, axis=1)
    correlation = jnp.fft.irfft((a * jnp.conj(b)).at[:, 0].set(0).sum(axis=0), x.shape[1])
    peak = jnp.argmax(correlation)
    left, top, right = (correlation[(peak + k) % x.shape[1]] for k in (-1, 0, 1))
    return 2 * jnp.pi * (peak + parabola_vertex(left, top, right)) / x.shape[1]


@dataclass(frozen=True)
class RotationInvariantSpec:
    """What a `RotationInvariantVAE` is made of.

    Attributes:
        shape: Number of rings and angles of a sample.
        latent: Size of the code.
        backbone: Its layers.

    Example:
        >>> RotationInvariantSpec((3, 8), latent=2).build(0).encode(jnp.ones((3, 8))).shape
        (2,)
    """

    shape: tuple[int, int]
    latent: int = 2
    backbone: Dense = field(default_factory=lambda: Dense((256,), "gelu"))

    def build(self, seed: int) -> RotationInvariantVAE:
        """The model with weights drawn with a seed."""
        rngs = nnx.Rngs(seed)
        seen = (2, self.shape[0], self.shape[1] // 2 + 1)
        encoder = self.backbone.encoder(seen, 2 * self.latent, rngs)
        return RotationInvariantVAE(encoder, self.backbone.decoder(self.latent, self.shape, rngs))


@dataclass(frozen=True)
class AlignedEvidenceBound:
    """`EvidenceBound` of a rotation-invariant model: the decoded content is turned onto the target first.

    The angle maximizes the correlation, so the loss does not change with it to first order, and no
    gradient passes through it.

    Attributes:
        kl_weight: Weight of the divergence from a standard normal code.

    Example:
        >>> model = RotationInvariantSpec((3, 8)).build(0)
        >>> sample = jnp.ones((3, 8)), jnp.ones((3, 8))
        >>> sorted(AlignedEvidenceBound()(model, sample, jax.random.key(0), jnp.asarray(0.5)))
        ['kl', 'reconstruction']
    """

    kl_weight: float = 1e-3

    def __call__(
        self,
        model: RotationInvariantVAE,
        sample: tuple[Array, Array],
        key: jax.Array,
        progress: Array,
    ) -> dict[str, Array]:
        """Weighted terms of one sample."""
        x, target = sample
        mean, log_variance = model.posterior(x)
        code = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape, mean.dtype)
        content = model.decode(code)
        angle = jax.lax.stop_gradient(best_rotation(target, content))
        return {
            "reconstruction": mean_squared_error(rotate_polar(content, angle), target),
            "kl": self.kl_weight * kl_to_standard_normal(mean, log_variance),
        }
