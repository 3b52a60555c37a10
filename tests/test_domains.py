import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from jax4dstem.domains import (
    GaussianMixtureSplitter,
    HDBSCANSplitter,
    KMeansSplitter,
    agreement,
    divide,
    drop_outliers,
)
from jax4dstem.domains.selection import elbow, silhouette

METHODS = [KMeansSplitter(), GaussianMixtureSplitter(), HDBSCANSplitter()]
METHOD_IDS = [type(method).__name__ for method in METHODS]


def blobs(centers, size=150, width=0.5, seed=0):
    """Points of a few normal clusters in five dimensions."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(centers)), size)
    points = np.zeros((len(truth), 5))
    points[:, :2] = np.asarray(centers)[truth]
    return points + rng.normal(0, width, points.shape), truth


@pytest.mark.parametrize("splitter", METHODS, ids=METHOD_IDS)
@pytest.mark.parametrize("n_clusters", [2, 3, 4])
def test_the_number_of_clusters_is_found(splitter, n_clusters):
    angles = 2 * np.pi * np.arange(n_clusters) / n_clusters
    points, truth = blobs(8 * np.stack([np.cos(angles), np.sin(angles)], 1))
    split = splitter.split(points, 0)
    assert split.n_clusters == n_clusters
    assert adjusted_rand_score(truth, split.labels) > 0.98
    assert split.stability > 0.95
    curves = split.curves
    assert np.nanmax(curves.silhouette) > curves.noise[1] > curves.noise[0]


@pytest.mark.parametrize("splitter", METHODS, ids=METHOD_IDS)
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_not_split(splitter, seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (500, 5)) * [3, 2, 1, 1, 1]
    split = splitter.split(noise, seed)
    assert split.n_clusters == 1
    assert not split.labels.any()


def test_a_fixed_number_of_clusters_is_respected():
    noise = np.random.default_rng(0).normal(0, 1, (200, 3))
    assert KMeansSplitter(k=4).split(noise, 0).n_clusters == 4


def nested():
    """Two far clusters; the first consists of two that are close to each other."""
    return blobs([[-10, 0], [-10, 4], [30, 0]])


@pytest.mark.parametrize(
    "splitter",
    [KMeansSplitter(k_max=4), HDBSCANSplitter()],
    ids=["KMeansSplitter", "HDBSCANSplitter"],
)
def test_levels_refine_and_leaves_keep_their_label(splitter):
    points, truth = nested()
    tree = divide(points, [KMeansSplitter(k=2), splitter, splitter])
    assert [len(tree.ids(level)) for level in (1, 2)] == [2, 3]
    coarse, fine = tree.levels[0], tree.levels[1]
    leaf = coarse[truth == 2][0]
    assert (fine[truth == 2] == leaf).all()
    for node in tree.nodes:
        assert node.parent < node.id
        assert (tree.levels[node.level - 1] == node.id).sum() == node.size
    inside = fine >= 0
    assert adjusted_rand_score(truth[inside], fine[inside]) > 0.98


def test_the_same_seed_gives_the_same_tree():
    points, _ = nested()
    first, second = (
        divide(points, [KMeansSplitter(), GaussianMixtureSplitter()], seed=3) for _ in range(2)
    )
    for a, b in zip(first.levels, second.levels, strict=True):
        np.testing.assert_array_equal(a, b)


def test_outliers_stay_outliers():
    points, _ = nested()
    outliers = np.zeros(len(points), bool)
    outliers[::17] = True
    tree = divide(points, [KMeansSplitter(), KMeansSplitter()], outliers=outliers)
    for labels in tree.levels:
        np.testing.assert_array_equal(labels == -1, outliers)


def test_hdbscan_outliers_stay_outliers_at_deeper_levels():
    points, _ = nested()
    points = np.concatenate([points, np.random.default_rng(1).uniform(-60, 60, (30, 5))])
    tree = divide(points, [HDBSCANSplitter(), KMeansSplitter()])
    assert (tree.levels[0] == -1).sum() > 10
    assert (tree.levels[-1][tree.levels[0] == -1] == -1).all()


def test_drop_outliers_finds_the_far_points():
    points, _ = blobs([[0, 0]])
    points[:5] += 40 * np.eye(5)
    dropped = drop_outliers(points, 5 / len(points))
    assert dropped[:5].all()
    assert dropped.sum() == 5
    assert not drop_outliers(points, 0.0).any()


@pytest.mark.parametrize("splitter", METHODS, ids=METHOD_IDS)
@pytest.mark.parametrize("n", [1, 2, 6])
def test_tiny_sets_do_not_crash(splitter, n):
    points = np.random.default_rng(0).normal(size=(n, 3))
    tree = divide(points, [splitter, splitter])
    assert tree.levels[0].shape == (n,)


@pytest.mark.parametrize("splitter", METHODS, ids=METHOD_IDS)
def test_identical_points_are_one_cluster(splitter):
    assert splitter.split(np.ones((60, 3)), 0).n_clusters == 1


def test_elbow_of_a_kinked_curve():
    assert elbow(np.array([100.0, 40.0, 5.0, 4.0, 3.0, 2.0])) == 2


def test_silhouette_of_one_cluster_is_minus_one():
    assert silhouette(np.random.default_rng(0).normal(size=(20, 2)), np.zeros(20, int), 0) == -1


def chains(seed=0):
    """Three long, curved, thin clusters that K-means cuts across."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, 1, (3, 120)))
    points = [np.stack([8 * t[i], np.sin(3 * t[i]) + 2.0 * i, 0 * t[i]], axis=1) for i in range(3)]
    return np.concatenate(points) + rng.normal(0, 0.05, (360, 3)), np.repeat([0, 1, 2], 120)


def test_hdbscan_finds_a_wanted_number_of_chains_and_k_means_does_not():
    points, truth = chains()
    split = HDBSCANSplitter(k=3, min_cluster_size=10, min_samples=2, join_outliers="all").split(
        points, 0
    )
    assert split.n_clusters == 3
    assert agreement(truth, split.labels).share == 1.0
    assert agreement(truth, KMeansSplitter(k=3).split(points, 0).labels).share < 0.8


def test_joined_outliers_go_to_the_nearest_cluster():
    points, truth = blobs([[0, 0], [20, 0]], size=100)
    points[0] = [-40, 0, 0, 0, 0]
    kept = HDBSCANSplitter(min_cluster_size=30).split(points, 0).labels
    assert kept[0] == -1
    joined = HDBSCANSplitter(min_cluster_size=30, join_outliers="all").split(points, 0).labels
    assert adjusted_rand_score(truth, joined) == 1.0


def test_what_lies_between_clusters_stays_an_outlier():
    points, _ = blobs([[0, 0], [20, 0], [0, 60]], size=100)
    points[:2] = [[10, 0, 30, 0, 0], [0, 0, 8, 0, 0]]
    methods = [
        HDBSCANSplitter(min_cluster_size=30, join_outliers=rule) for rule in ("clear", "all")
    ]
    clear, all_joined = (method.split(points, 0).labels for method in methods)
    assert clear[0] == -1
    assert all_joined[0] >= 0
    assert clear[1] == all_joined[1] == clear[2]


def test_agreement_matches_clusters_and_counts_outliers_as_wrong():
    labels = np.repeat([0, 1, 2], 10)
    others = np.repeat([7, 3, 5], 10)
    others[:2] = -1
    others[10:13] = 5
    found = agreement(labels, others)
    assert found.share == pytest.approx(25 / 30)
    assert found.matched[2:10].tolist() == [0] * 8
    assert found.matched[:2].tolist() == [-1, -1]
    assert agreement(labels, np.full(30, -1)).share == 0.0
    assert agreement(labels, labels).index == 1.0
