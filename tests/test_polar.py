import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem.patterns.polar import AngularCorrelations, to_polar
from jax4dstem.smoothing import smooth

CENTER = jnp.array([24.2, 23.7])
DESCRIBE = AngularCorrelations(rings=6, angles=48, orders=10)
RINGS = (5.0, 20.0, 1.5)


def spots(angle, radii=(8.0, 13.0, 13.0), angles=(0.0, 0.7, 2.9), heights=(30.0, 20.0, 9.0)):
    """Gaussian disks at given polar positions, all turned by one angle."""
    y, x = np.indices((49, 48))
    pattern = np.full(y.shape, 0.05)
    for radius, phi, height in zip(radii, np.array(angles) + angle, heights, strict=True):
        spot_y = float(CENTER[0]) - radius * np.sin(phi)
        spot_x = float(CENTER[1]) + radius * np.cos(phi)
        pattern += height * np.exp(-((y - spot_y) ** 2 + (x - spot_x) ** 2) / 8)
    return jnp.asarray(pattern)


@settings(deadline=None, max_examples=15)
@given(st.floats(0, 2 * np.pi), st.floats(0.01, 100))
def test_rotation_and_intensity_do_not_matter(angle, scale):
    first = DESCRIBE(spots(0.0), CENTER, *RINGS)
    turned = DESCRIBE(scale * spots(angle), CENTER, *RINGS)
    assert float(jnp.linalg.norm(first - turned)) < 0.03


def test_the_angle_between_reflections_matters():
    first = DESCRIBE(spots(0.0), CENTER, *RINGS)
    other = DESCRIBE(spots(0.0, angles=(0.5, 0.7, 2.9)), CENTER, *RINGS)
    # The same spots on every ring, one ring turned against the others: moduli alone would not see it.
    assert float(jnp.linalg.norm(first - other)) > 0.15


def test_the_inner_product_is_an_average_over_rotations():
    """sum of conj(C) C' = mean over all rotations of (s . R s')², when no order is cut off."""
    describe = AngularCorrelations(rings=4, angles=24, orders=12)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        patterns = [jnp.asarray(rng.random((49, 48))) for _ in range(2)]
        found = [describe(pattern, CENTER, 5.0, 20.0, 0.8) for pattern in patterns]
        radii = jnp.linspace(5.0, 20.0, 4)[:, None]
        rings = [
            jnp.sqrt(to_polar(smooth(pattern, 0.8), CENTER, 5.0, 20.0, (4, 24)) * radii)
            for pattern in patterns
        ]

        def average(a, b):
            products = [jnp.sum(a * jnp.roll(b, shift, axis=1)) ** 2 for shift in range(24)]
            return float(jnp.mean(jnp.array(products)))

        expected = average(*rings) / np.sqrt(
            average(rings[0], rings[0]) * average(rings[1], rings[1])
        )
        # The highest order is its own mirror: it is weighted twice, which changes next to nothing here.
        assert float(found[0] @ found[1]) == pytest.approx(expected, rel=2e-3)


def test_description_has_norm_one_and_its_stated_size():
    found = DESCRIBE(spots(0.3), CENTER, *RINGS)
    assert found.shape == (DESCRIBE.size,)
    assert float(jnp.linalg.norm(found)) == pytest.approx(1.0, abs=1e-5)


def test_nothing_on_the_rings_is_nan():
    assert np.isnan(DESCRIBE(jnp.zeros((49, 48)), CENTER, *RINGS)).all()


def test_blur_keeps_the_intensity_of_the_middle():
    blurred = smooth(jnp.zeros((21, 31)).at[10, 15].set(7.0), 2.0)
    assert float(blurred.sum()) == pytest.approx(7.0, rel=1e-3)
    x = np.arange(31)
    width = float(jnp.sum(blurred * (x - 15) ** 2) / 7)
    assert width == pytest.approx(4.0, rel=0.01)
