import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem.embed import embed_umap, fit_pca, subsample
from jax4dstem.errors import InputError
from jax4dstem.patterns import features
from jax4dstem.patterns.align import DirectBeam
from jax4dstem.patterns.detectors import annular_mask
from jax4dstem.reducers import CovarianceResult


def test_default_ring_clears_the_beam_and_stays_on_every_pattern():
    centers = np.full((4, 4, 2), 31.0)
    centers[0, 0] = [28.0, 34.5]
    inner, outer = features.ring_radii(DirectBeam(np.array([31.0, 31.0]), 3.0), centers, (64, 64))
    assert inner == 8
    assert outer == 28


def test_default_ring_scales_with_the_detector():
    def radii(n):
        centers = np.full((2, 2, 2), n / 2)
        return features.ring_radii(DirectBeam(np.full(2, n / 2), n / 32), centers, (n, n))

    assert radii(256)[1] == pytest.approx(2 * radii(128)[1], abs=2)
    assert radii(256)[0] == pytest.approx(2 * radii(128)[0], abs=3)


def test_a_beam_that_fills_the_detector_is_itself_the_ring():
    beam = DirectBeam(np.array([8.0, 8.0]), 4.0)
    assert features.ring_radii(beam, np.full((1, 1, 2), 8.0), (16, 16)) == (0.0, 7.0)


def test_a_beam_at_the_edge_leaves_no_ring():
    with pytest.raises(InputError, match="at the edge of the 16 x 16 detector"):
        features.ring_radii(
            DirectBeam(np.array([1.0, 8.0]), 4.0), np.full((1, 1, 2), 1.0), (16, 16)
        )


@settings(deadline=None, max_examples=20)
@given(st.floats(0.05, 1.0))
def test_the_chosen_pixels_are_the_most_varying_of_the_ring(fraction):
    std = np.random.default_rng(0).uniform(size=(40, 40))
    ring = np.asarray(annular_mask((40, 40), jnp.array([20.0, 20.0]), 5.0, 15.0)) > 0.5
    mask = features.top_fraction(std, ring, fraction)
    assert (mask & ~ring).sum() == 0
    assert mask.sum() == pytest.approx(fraction * ring.sum(), abs=1.5)
    if mask.sum() < ring.sum():
        assert std[mask].min() >= std[ring & ~mask].max()


def test_fraction_must_be_a_share():
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        features.top_fraction(np.ones((4, 4)), np.ones((4, 4), bool), 0.0)


def test_noise_scale_makes_shot_noise_equal(rng):
    mean = np.geomspace(2, 500, 64).reshape(8, 8)
    mask = np.ones((8, 8), bool)
    scale = features.noise_scale(mean, mask)
    scan = rng.poisson(mean, (4000, 8, 8)).reshape(4000, -1) * scale
    bright = mean.ravel() > mean.mean()  # well above the floor
    np.testing.assert_allclose(scan.std(0)[bright], 1.0, atol=0.08)


def test_gather_features_takes_pixels_in_order():
    mask = np.zeros((3, 4), bool)
    mask[0, 1] = mask[2, 3] = True
    pixels = jnp.asarray(features.mask_pixels(mask))
    found = features.gather_features(jnp.arange(12.0).reshape(3, 4), pixels, jnp.array([1.0, 10.0]))
    assert found.tolist() == [1.0, 110.0]


def test_pca_equals_the_singular_value_decomposition(rng):
    data = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12))
    statistics = CovarianceResult(data.mean(0), np.cov(data.T, bias=True), 300.0)
    pca = fit_pca(statistics, 5)
    _, singular, vectors = np.linalg.svd(data - data.mean(0), full_matrices=False)
    np.testing.assert_allclose(pca.explained_variance, singular[:5] ** 2 / 300, rtol=1e-6)
    np.testing.assert_allclose(np.abs((pca.components * vectors[:5]).sum(1)), 1, rtol=1e-6)
    assert pca.explained_variance_ratio.sum() < 1


def test_pca_keeps_no_more_components_than_there_are_patterns():
    statistics = CovarianceResult(np.zeros(8), np.eye(8), 3.0)
    assert len(fit_pca(statistics, 10).components) == 3


def test_pca_of_invalid_features_is_an_error():
    with pytest.raises(InputError, match="not finite"):
        fit_pca(CovarianceResult(np.zeros(2), np.full((2, 2), np.nan), 5.0), 1)


def test_subsample_is_seeded_and_whole_when_small():
    assert subsample(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
    first, again, other = (subsample(1000, 10, seed) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def test_umap_needs_neighborhoods():
    with pytest.raises(InputError, match="at least 8 positions"):
        embed_umap(np.zeros((7, 2)))


@pytest.mark.parametrize("dose", [300.0, 1e5])
@pytest.mark.parametrize("size", [64, 96])
def test_scattering_radius_follows_the_reflections_not_dose_or_detector(dose, size):
    rng = np.random.default_rng(0)
    y, x = np.indices((size, size)) - size // 2
    radius = np.hypot(y, x)
    beam = 0.7 * np.exp(-(radius**2) / 8) / 25 + 2e-5
    patterns = []
    for angle in rng.uniform(0, 2 * np.pi, 400):
        spot = np.hypot(y - 18 * np.sin(angle), x - 18 * np.cos(angle))
        patterns.append(beam + 0.3 * np.exp(-(spot**2) / 8) / 25)
    counts = rng.poisson(dose * np.array(patterns))
    found = features.scattering_radius(
        counts.mean(0), counts.std(0), np.full(2, size // 2), 8.0, size // 2 - 1.0
    )
    assert 17 <= found <= 23
