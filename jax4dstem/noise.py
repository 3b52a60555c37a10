"""How counts scatter around their expectation: the only place that knows a likelihood or a variance of counts."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.typing import Array, Float, Num, Scalar


@runtime_checkable
class Noise(Protocol):
    """A noise model: a small frozen pytree, whose leaves are arguments of compiled functions.

    All functions work element by element; expected counts are not negative.
    """

    def units(self) -> dict[str, str]:
        """Its parameters, by name, and their units: what results files keep of it."""
        ...

    def variance(self, expected: Any) -> Any:
        """Variance of counts of a given expectation, of the same shape; NumPy or JAX."""
        ...

    def deviance(self, counts: Array, expected: Array) -> Array:
        """Twice the logarithm of the likelihood of a perfect fit over that of the expected counts."""
        ...

    def evidence(self, expected: Any, without: Any) -> Any:
        """What one count adds to the logarithm of the likelihood ratio of two expectations; NumPy."""
        ...

    def stabilize(self, counts: Array) -> Array:
        """A function of the counts whose variance is 1, whatever their expectation."""
        ...

    def summed(self, pixels: Any) -> "Noise":
        """Noise of the sum of so many pixels, or of sums of different numbers of them."""
        ...

    def draw(self, key: jax.Array, expected: Array) -> Array:
        """Random counts, on the device."""
        ...

    def count(self, generator: np.random.Generator, expected: np.ndarray) -> np.ndarray:
        """Random counts, on the host; integers where a detector gives integers."""
        ...

    def thin(self, generator: np.random.Generator, counts: np.ndarray, share: float) -> np.ndarray:
        """What the same detector would have counted of a share of the electrons, on the host."""
        ...


class ElectronNoise(NamedTuple):
    r"""Electrons that arrive at random, amplified, and read out with Gaussian noise.

    .. math:: n = g \, e + s \, \eta, \qquad e \sim \operatorname{Poisson}(\lambda / g), \quad
        \eta \sim \mathcal N(0, 1), \qquad \operatorname{var} n = g \lambda + s^2 .

    Its likelihood is that of the shifted Poisson law: :math:`n / g + s^2 / g^2` is taken as Poisson distributed
    around :math:`\lambda / g + s^2 / g^2`, which has the right mean and variance. The defaults are counted electrons.

    Attributes:
        gain: g, counts per electron.
        read_noise: s, standard deviation in counts.

    Example:
        >>> camera = ElectronNoise(gain=2.0, read_noise=3.0)
        >>> camera.variance(10.0), ElectronNoise().variance(10.0)
        (29.0, 10.0)

    Reference: Snyder, Hammoud and White, J. Opt. Soc. Am. A 10, 1014 (1993): the shifted Poisson law.
    """

    gain: Scalar = 1.0
    read_noise: Scalar = 0.0

    def units(self) -> dict[str, str]:
        """Units of gain and read-out noise."""
        return {"gain": "counts/electron", "read_noise": "counts"}

    def variance(self, expected: Any) -> Any:
        r"""Variance :math:`g \lambda + s^2` of counts of a given expectation λ."""
        return self.gain * expected + self.read_noise**2

    def deviance(self, counts: Num[Array, "..."], expected: Float[Array, "..."]) -> Array:
        r"""Deviance of the shifted Poisson law, per pixel.

        .. math:: D = 2 \left[k \ln\frac{k}{\mu} - (k - \mu)\right], \qquad
            k = \frac{n}{g} + \frac{s^2}{g^2}, \quad \mu = \frac{\lambda}{g} + \frac{s^2}{g^2},
            \qquad \frac{\partial D}{\partial\lambda} = 2 \, \frac{\lambda - n}{g \lambda + s^2}

        Args:
            counts: n; what lies below :math:`-s^2 / g`, where the law ends, counts as that.
            expected: λ, of the same shape, positive.

        Returns:
            D, zero where n = λ and positive elsewhere.

        Example:
            >>> ElectronNoise().deviance(jnp.array([4.0, 0.0]), jnp.array([4.0, 3.0])).tolist()
            [0.0, 6.0]
        """
        shift = (self.read_noise / self.gain) ** 2
        seen = jnp.maximum(counts / self.gain + shift, 0.0)
        mean = expected / self.gain + shift
        # Of 1e9 counts a rounded logarithm would leave no digits; without any it stays finite, as 0 ln 0 has no slope.
        least = jnp.finfo(mean.dtype).eps - 1
        logarithm = jnp.log1p(jnp.maximum((seen - mean) / mean, least))
        return 2 * (seen * logarithm - (seen - mean))

    def evidence(self, expected: Any, without: Any) -> Any:
        r"""Weight of a count in the likelihood ratio, :math:`\ln(\mu_1 / \mu_0) / g`."""
        gain = float(self.gain)
        shift = float(self.read_noise) ** 2 / gain
        return np.log1p((expected - without) / (without + shift)) / gain

    def stabilize(self, counts: Num[Array, "..."]) -> Float[Array, "..."]:
        r"""Counts of variance 1, :math:`\frac2g \sqrt{g n + \frac38 g^2 + s^2}`.

        Example:
            >>> float(ElectronNoise().stabilize(jnp.array(0.625)))
            2.0

        Reference: Anscombe, Biometrika 35, 246 (1948), eq. 1; with gain and read-out noise Starck, Murtagh and
        Bijaoui, Image Processing and Data Analysis (1998), eq. 2.9.
        """
        electrons = jnp.maximum(self.gain * counts.astype(float) + self.read_noise**2, 0)
        return 2 / self.gain * jnp.sqrt(electrons + 0.375 * self.gain**2)

    def summed(self, pixels: Any) -> "ElectronNoise":
        """Noise of the sum of so many pixels: each is read out."""
        return self._replace(read_noise=self.read_noise * pixels**0.5)

    def draw(self, key: jax.Array, expected: Float[Array, "..."]) -> Float[Array, "..."]:
        """Random counts around λ on the device; λ below zero counts as zero.

        Example:
            >>> counts = ElectronNoise(2.0, 1.0).draw(jax.random.key(0), jnp.full(10_000, 8.0))
            >>> round(float(counts.mean())), round(float(counts.var()))
            (8, 17)
        """
        shot, read = jax.random.split(key)
        rate = jnp.maximum(expected, 0) / self.gain
        electrons = jax.random.poisson(shot, rate, dtype=jnp.int32).astype(rate.dtype)
        return electrons * self.gain + self.read_noise * jax.random.normal(
            read, rate.shape, rate.dtype
        )

    def count(self, generator: np.random.Generator, expected: np.ndarray) -> np.ndarray:
        """Random counts around λ on the host: integers where electrons are counted, float32 elsewhere."""
        gain, read_noise = float(self.gain), float(self.read_noise)
        electrons = generator.poisson(expected / gain)
        if gain == 1 and read_noise == 0:
            return electrons
        noise = read_noise * generator.standard_normal(np.shape(expected))
        return (gain * electrons + noise).astype(np.float32)

    def thin(self, generator: np.random.Generator, counts: np.ndarray, share: float) -> np.ndarray:
        r"""Counts of a share f of the electrons: every electron is kept with that chance.

        .. math:: n' = g \, B(k, f) + f (n - g k) + \sqrt{1 - f^2} \, s \, \eta, \qquad k = \max(0, [n / g]), \quad
            B \sim \operatorname{Binomial}, \quad \eta \sim \mathcal N(0, 1)

        Counted electrons are thinned exactly. With read-out noise nobody knows how many electrons there were; what is taken
        for them has the right mean :math:`f \lambda` and variance :math:`g f \lambda + s^2` all the same, as the read-out noise
        of the counts is thinned with them and the rest is added, for parts of an electron, and for less than none, more or
        less of it. Noise that pixels share (a blur) is thinned as if each had its own.

        Args:
            generator: Of random numbers.
            counts: n, of any shape, whole where electrons are counted; NaN stays NaN.
            share: f, from 0 to 1.

        Returns:
            Counts of the same shape: whole where electrons are counted, float32 elsewhere.

        Example:
            >>> counts = ElectronNoise(2.0, 1.0).count(np.random.default_rng(0), np.full(100_000, 8.0))
            >>> tenth = ElectronNoise(2.0, 1.0).thin(np.random.default_rng(1), counts, 0.1)
            >>> round(float(tenth.mean()), 1), round(float(tenth.var()), 1)  # 0.8 and 2 * 0.8 + 1
            (0.8, 2.6)
        """
        gain, read_noise = float(self.gain), float(self.read_noise)
        counts = np.asarray(counts)
        counted = counts.dtype.kind in "ui" and (counts >= 0).all()
        if gain == 1 and read_noise == 0 and counted:
            return generator.binomial(counts, share).astype(counts.dtype)
        electrons = np.nan_to_num(np.maximum(np.rint(counts / gain), 0)).astype(np.int64)
        rest = counts - gain * electrons
        kept = gain * generator.binomial(electrons, share) + share * rest
        variance = (1 - share**2) * read_noise**2 + share * (1 - share) * gain * rest
        noise = np.sqrt(np.maximum(variance, 0)) * generator.standard_normal(counts.shape)
        return (kept + noise).astype(np.float32)


# Noise models by name, as results files call them.
NOISES: dict[str, type[Noise]] = {"electrons": ElectronNoise}
COUNTED = ElectronNoise()  # electrons counted one by one


def effective_electrons(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    r"""Electrons behind a mean, by its scatter: :math:`(\mu / \sigma)^2`, whatever the gain; 0 where nothing scatters.

    Example:
        >>> effective_electrons(np.array([20.0, 3.0]), np.array([4.0, 0.0])).tolist()
        [25.0, 0.0]
    """
    return np.divide(mean**2, std**2, where=std > 0, out=np.zeros_like(mean))


def quietest_gain(mean: np.ndarray, variance: np.ndarray) -> ElectronNoise:
    """Noise of the parts of a scan that vary least: the tenth quantile of variance over mean is the gain.

    Args:
        mean: Of some sums of pixels, positive.
        variance: Of the same.
    """
    return ElectronNoise(gain=float(np.quantile(variance / mean, 0.1)))


__all__ = ["NOISES", "ElectronNoise", "Noise"]
