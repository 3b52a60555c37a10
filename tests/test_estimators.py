"""Autoencoders as scikit-learn estimators, and anomalies."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from jax4dstem import InputError
from jax4dstem.anomaly import AnomalyDetector, false_discovery
from jax4dstem.embed import (
    AutoEncoderEstimator,
    ConvolutionalEstimator,
    ConvolutionalVariationalEstimator,
    DenoisingEstimator,
    RotationInvariantEstimator,
    VariationalEstimator,
    bottleneck_sweep,
    decoded_centroids,
    interpolate,
    traverse,
)

SMALL = {"epochs": 2, "batch_size": 16}
ESTIMATORS = [
    AutoEncoderEstimator(2, (4,), **SMALL),
    ConvolutionalEstimator(latent=2, channels=(2,), **SMALL),
    RotationInvariantEstimator(latent=2, hidden=(4,), **SMALL),
]
# They inherit how they are fitted and asked; parameters, network and loss are their own.
HEIRS = [
    VariationalEstimator(2, (4,), **SMALL),
    DenoisingEstimator(2, (4,), **SMALL),
    ConvolutionalVariationalEstimator(latent=2, channels=(2,), **SMALL),
]
OWN = [
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params,
    estimator_checks.check_dict_unchanged,
    estimator_checks.check_fit_idempotent,
    estimator_checks.check_transformer_general,
]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@estimator_checks.parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_accepts_the_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", OWN, ids=lambda check: check.__name__)
@pytest.mark.parametrize("estimator", HEIRS, ids=lambda heir: type(heir).__name__)
def test_scikit_learn_accepts_what_heirs_have_of_their_own(estimator, check):
    check(type(estimator).__name__, estimator)


def curve(rng, n=120):
    t = rng.uniform(-2, 2, n)
    return np.stack([t, t**2, np.sin(2 * t), np.ones(n)], axis=1)


def test_codes_go_through_pipelines_searches_and_clustering(rng):
    X = curve(rng)
    model = AutoEncoderEstimator(2, (16,), "gelu", epochs=60, batch_size=32, learning_rate=0.01)
    chain = make_pipeline(StandardScaler(), model, KMeans(3, n_init=2))
    assert set(chain.fit_predict(X)) == {0, 1, 2}
    search = GridSearchCV(clone(model), {"latent": [1, 3]}, cv=2).fit(X)
    assert search.best_params_ == {"latent": 3}
    assert search.best_score_ > 0.9


def test_constant_features_and_small_data_warn_and_work(rng):
    X = curve(rng, 20)
    with pytest.warns(UserWarning, match="constant") as told:
        model = AutoEncoderEstimator(8, (8,), epochs=5).fit(X)
    text = " ".join(str(w.message) for w in told)
    for word in ("constant", "clipped", "shrinks"):
        assert word in text
    assert model.transform(X).shape == (20, 3)
    assert (model.reconstruct(X)[:, 3] == 1).all()
    assert model.inverse_transform(model.transform(X)).shape == X.shape


def test_denoising_learns_from_clean_targets(rng):
    clean = curve(rng, 400)
    noisy = clean + 0.3 * rng.standard_normal(clean.shape)
    model = DenoisingEstimator(1, (32,), "gelu", noise=0, epochs=150, learning_rate=0.01)
    model.fit(noisy[:300], target=clean[:300])
    before = np.mean((noisy[300:] - clean[300:]) ** 2)
    assert np.mean((model.reconstruct(noisy[300:]) - clean[300:]) ** 2) < 0.6 * before
    with pytest.raises(ValueError, match="differ in shape"):
        model.fit(noisy, target=clean[:10])


def test_samples_of_the_prior_look_like_the_data(rng):
    X = curve(rng, 300)
    model = VariationalEstimator(1, (32,), "gelu", kl_weight=0.02, epochs=150, learning_rate=0.01)
    drawn = model.fit(X).sample(200)
    assert abs(drawn[:, 0].mean() - X[:, 0].mean()) < 0.4
    assert 0.5 < drawn[:, 0].std() / X[:, 0].std() < 1.6


def test_codes_can_be_walked_through(rng):
    X = curve(rng, 200)[:, :3]
    model = AutoEncoderEstimator(2, (16,), "gelu", epochs=80, learning_rate=0.01).fit(X)
    codes = model.transform(X)
    line = interpolate(model, codes[0], codes[1], 5)
    np.testing.assert_allclose(line[[0, -1]], model.reconstruct(X[:2]), atol=1e-5)
    walk = traverse(model, codes[0], 1, [codes[0, 1], codes[0, 1] + 1])
    np.testing.assert_allclose(walk[0], line[0], atol=1e-5)
    assert np.abs(walk[1] - walk[0]).max() > 0
    labels = np.where(X[:, 0] > 0, 1, 0)
    labels[:5] = -1
    assert np.diff(decoded_centroids(model, codes, labels)[:, 0]) > 0.5


def test_a_bottleneck_sweep_finds_the_dimension_of_the_data(rng):
    X = rng.standard_normal((160, 2)) @ rng.standard_normal((2, 6))
    model = AutoEncoderEstimator(hidden=(), activation="linear", epochs=200, learning_rate=0.05)
    sweep = bottleneck_sweep(model, X, [1, 2, 3], KMeans(2, n_init=1).fit_predict)
    assert sweep.error[1].max() < 0.05 * sweep.error[0].min()
    assert sweep.explained[2] < 1e-6
    with pytest.raises(InputError, match="as many features"):
        bottleneck_sweep(model, X, [9], KMeans(2).fit_predict)


@pytest.mark.whole
def test_a_defect_in_a_lattice_has_the_largest_error(rng):
    y, x = np.indices((12, 12))
    phases = rng.uniform(0, 2 * np.pi, (200, 2, 1, 1))
    patches = np.cos(np.pi * y / 3 + phases[:, 0]) + np.cos(np.pi * x / 3 + phases[:, 1])
    patches += 0.1 * rng.standard_normal(patches.shape)
    defect = patches[:10] - 2 * np.exp(-((y - 6) ** 2 + (x - 6) ** 2) / 4)
    model = ConvolutionalEstimator((12, 12), 4, (8, 16), epochs=30, learning_rate=5e-3)
    model.fit(patches[:150].reshape(150, -1))
    normal = model.reconstruction_error(patches[150:].reshape(50, -1))
    assert model.reconstruction_error(defect.reshape(10, -1)).min() > np.quantile(normal, 0.9)


def test_images_need_their_shape():
    with pytest.raises(ValueError, match="no image of shape"):
        ConvolutionalEstimator((3, 4)).fit(np.ones((5, 13)))


def test_false_discoveries_are_bounded(rng):
    shares, above = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        normal = AnomalyDetector.fit(rng.standard_normal((400, 3)), rng.gamma(5, 1, 400))
        codes = rng.standard_normal((1000, 3))
        codes[:100] += 6
        found = normal.find(codes, rng.gamma(5, 1, 1000))
        assert found.by_discovery[:100].mean() > 0.9
        shares.append(found.by_discovery[100:].sum() / max(found.by_discovery.sum(), 1))
        above.append(found.by_threshold[100:].mean())
    assert np.mean(shares) < 0.06
    # One in a hundred normal samples is above the threshold, of both measures together.
    assert 0.005 < np.mean(above) < 0.02


def test_nan_is_no_anomaly_and_bad_calibration_is_refused(rng):
    detector = AnomalyDetector.fit(rng.standard_normal((50, 2)), rng.random(50))
    found = detector.find(np.array([[np.nan, 0.0], [0.0, 0.0]]), np.array([0.1, np.nan]))
    assert not (found.by_threshold | found.by_discovery).any()
    assert np.isnan(found.p_value).all()
    assert not false_discovery(np.full(3, np.nan), 0.1).any()
    with pytest.raises(InputError, match="do not calibrate"):
        AnomalyDetector.fit(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(InputError, match="NaN"):
        AnomalyDetector.fit(np.full((50, 2), np.nan), np.zeros(50))
    with pytest.raises(InputError, match="percentile"):
        AnomalyDetector.fit(np.zeros((50, 2)), np.zeros(50), percentile=20)
