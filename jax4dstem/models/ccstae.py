"""The cycle-consistent spatial-transforming autoencoder, as it was published.

An encoder reads a pattern and says which of a few base patterns it shows, and by which affine transformation. A
decoder makes the base patterns. The base, transformed, shall be the pattern, and the pattern, transformed back, the base.

Reference: "Extremely Noisy 4D-TEM Strain Mapping Using Cycle Consistent Spatial Transforming Autoencoders".
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import nnx

from jax4dstem.coordinates import deformation, radius_from
from jax4dstem.models.layers import Convolutional
from jax4dstem.models.warp import affine_warp, inverse_warp
from jax4dstem.typing import Array, Float

AFFINE = 6  # e_xx, e_yy, e_xy, rotation, shift y, shift x
HARDEST = 0.1  # temperature of the choice of a base at the end of training; 1 at its beginning


class CycleConsistentAutoEncoder(nnx.Module):
    """Bases, and the encoder of their choice and transformation; works on one pattern ``(height, width)``.

    ``limits`` are the largest strain, shear, rotation (radians) and shift (px) that the encoder can say.

    Example:
        >>> model = CycleConsistentSpec((16, 18), (8.0, 9.0), backbone=Convolutional((2,))).build(0)
        >>> logits, affine = model.read(jnp.ones((16, 18)))
        >>> logits.shape, affine.shape, model.to_base(jnp.ones((16, 18)), affine).shape
        ((1,), (6,), (16, 18))
    """

    def __init__(
        self,
        encoder: nnx.Module,
        decoder: nnx.Module,
        center: tuple[float, float],
        limits: tuple[float, float, float, float],
        n_bases: int,
    ):
        self.encoder = encoder
        self.decoder = decoder
        self.center = center
        self.limits = limits
        self.n_bases = n_bases

    def read(self, x: Float[Array, "height width"]) -> tuple[Array, Array]:
        """Logits of the bases, and the affine parameters within their limits."""
        return self.within(self.encoder(x))  # type: ignore[operator]

    def within(self, code: Float[Array, " code"]) -> tuple[Array, Array]:
        """What the numbers of the encoder say: logits, and affine parameters within their limits."""
        strain, shear, rotation, shift = self.limits
        limits = jnp.array([strain, strain, shear, rotation, shift, shift])
        return code[: self.n_bases], limits * jnp.tanh(code[self.n_bases :])

    def encode(self, x: Float[Array, "height width"]) -> Float[Array, " code"]:
        """Logits of the bases, then e_xx, e_yy, e_xy, rotation, shift y, shift x, in one vector."""
        return jnp.concatenate(self.read(x))

    def bases(self) -> Float[Array, "bases height width"]:
        """All base patterns. They depend on no sample: under `jax.vmap` they are rendered once."""
        return jax.nn.softplus(jax.vmap(self.decoder)(jnp.eye(self.n_bases)))  # type: ignore[arg-type]

    def chosen(
        self, logits: Array, temperature: Array | float = HARDEST
    ) -> Float[Array, "height width"]:
        """The base of the largest logit; gradients are those of a soft choice (straight-through)."""
        soft = jax.nn.softmax(logits / temperature)
        hard = jax.nn.one_hot(jnp.argmax(logits), self.n_bases)
        weights = soft + jax.lax.stop_gradient(hard - soft)
        return jnp.einsum("b,bij->ij", weights, self.bases())

    def to_pattern(self, base: Array, affine: Array) -> Float[Array, "height width"]:
        """A base moved to the pattern: strained, rotated and shifted in one resampling."""
        return affine_warp(base, _matrix(affine), jnp.array(self.center), affine[4:])

    def to_base(self, x: Array, affine: Array) -> Float[Array, "height width"]:
        """A pattern moved back to its base."""
        return inverse_warp(x, _matrix(affine), jnp.array(self.center), affine[4:])

    def decode(self, code: Float[Array, " code"]) -> Float[Array, "height width"]:
        """The pattern of a code of `encode`."""
        return self.to_pattern(self.chosen(code[: self.n_bases]), code[self.n_bases :])

    def __call__(self, x: Float[Array, "height width"]) -> Float[Array, "height width"]:
        """The reconstruction of one pattern."""
        return self.decode(self.encode(x))


def _matrix(affine: Array) -> Array:
    """What the affine parameters do to reciprocal vectors: F^-T of the strain F of the crystal."""
    return jnp.linalg.inv(deformation(affine[0], affine[1], affine[2], affine[3])).T


@dataclass(frozen=True)
class CycleConsistentSpec:
    """What a `CycleConsistentAutoEncoder` is made of.

    Attributes:
        shape: Of a pattern, ``(height, width)``; need not be square.
        center: Of the direct beam, (y, x) in px, not rounded.
        n_bases: Base patterns.
        limits: Largest strain, shear, rotation in radians and shift in px.
        backbone: Of encoder and decoder.

    Example:
        >>> spec = CycleConsistentSpec((16, 18), (8.0, 9.0), n_bases=2, backbone=Convolutional((2,)))
        >>> spec.build(0).bases().shape
        (2, 16, 18)
    """

    shape: tuple[int, int]
    center: tuple[float, float]
    n_bases: int = 1
    limits: tuple[float, float, float, float] = (0.05, 0.05, 3.15, 2.0)
    backbone: Convolutional = field(default_factory=lambda: Convolutional(activation="relu"))

    def build(self, seed: int) -> CycleConsistentAutoEncoder:
        """The model with weights drawn with a seed."""
        rngs = nnx.Rngs(seed)
        encoder = self.backbone.encoder(self.shape, self.n_bases + AFFINE, rngs)
        decoder = self.backbone.decoder(self.n_bases, self.shape, rngs)
        return CycleConsistentAutoEncoder(encoder, decoder, self.center, self.limits, self.n_bases)


@dataclass(frozen=True)
class CycleConsistency:
    """Objective: base to pattern and pattern to base, both inside a mask.

    The mask starts as the ring and shrinks onto the spots: pixels whose surroundings in the base are darker than
    a rising threshold count less. It belongs to the base and is warped with it, so disks keep their size.

    Attributes:
        inner: Radius of the ring in px.
        outer: The same, outside.
        sparsity: Weight of the bases' mean absolute value.
        hinge: Weight of strains beyond ``soft_limit``.
        soft_limit: Strain from which on the hinge counts.
        shrink: How far the mask shrinks by the end: 0 not at all, 1 to the spots only.
        spot: Radius of the surroundings, px.
        gauge: Weight, at the beginning of the training and falling to none, of the squares of what the encoder says of the affine transformation,
            before its limits; 0 as published. A base that is strained, turned or moved explains all patterns as well, so nothing else holds the
            encoder: it runs to its limits, where it has no slope.

    Example:
        >>> model = CycleConsistentSpec((16, 18), (8.0, 9.0), backbone=Convolutional((2,))).build(0)
        >>> sample, progress = (jnp.ones((16, 18)), jnp.ones((16, 18))), jnp.asarray(0.5)
        >>> sorted(CycleConsistency(2.0, 7.0)(model, sample, jax.random.key(0), progress))
        ['backward', 'forward', 'gauge', 'hinge', 'sparsity']
    """

    inner: float
    outer: float
    sparsity: float = 1e-3
    hinge: float = 1.0
    soft_limit: float = 0.03
    shrink: float = 0.8
    spot: int = 2
    gauge: float = 0.0

    def __call__(
        self,
        model: CycleConsistentAutoEncoder,
        sample: tuple[Array, Array],
        key: jax.Array,
        progress: Array,
    ) -> dict[str, Array]:
        """Weighted terms of one pattern."""
        x, target = sample
        code = model.encoder(x)  # type: ignore[operator]
        logits, affine = model.within(code)
        base = model.chosen(logits, jnp.maximum(1.0 - progress, HARDEST))
        mask = self.mask(base, model.center, progress)
        moved = model.to_pattern(mask, affine)
        excess = jnp.maximum(jnp.abs(affine[:3]) - self.soft_limit, 0.0)
        return {
            "forward": _weighted_error(model.to_pattern(base, affine), target, moved),
            "backward": _weighted_error(model.to_base(target, affine), base, mask),
            "sparsity": self.sparsity * jnp.mean(jnp.abs(base)),
            "hinge": self.hinge * jnp.sum(excess**2),
            "gauge": self.gauge * (1 - progress) * jnp.sum(code[model.n_bases :] ** 2),
        }

    def mask(
        self, base: Array, center: tuple[float, float], progress: Array | float
    ) -> Float[Array, "height width"]:
        """Weights of the base's pixels at a share ``progress`` of the training."""
        radius = radius_from(jnp.array(center), base.shape)
        ring = ((radius >= self.inner) & (radius <= self.outer)).astype(base.dtype)
        inside = jax.lax.stop_gradient(base) * ring
        side = 2 * self.spot + 1
        around = jax.lax.reduce_window(inside, -jnp.inf, jax.lax.max, (side, side), (1, 1), "SAME")
        spots = around > 0.3 * jnp.max(inside)
        return ring * jnp.where(spots, 1.0, 1.0 - self.shrink * progress)


def _weighted_error(a: Array, b: Array, weight: Array) -> Array:
    return jnp.sum(weight * (a - b) ** 2) / jnp.maximum(jnp.sum(weight), 1.0)
