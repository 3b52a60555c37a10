"""The domain map: as many domains as the specimen has, shares that are right, doubt that is calibrated."""

import numpy as np
import pytest
from second_renderer import render
from sklearn.metrics import adjusted_rand_score

from jax4dstem import Dataset, align_scan, prepare_patterns, survey_scan
from jax4dstem.domains import (
    DiskSums,
    Domains,
    choose_features,
    feature_vectors,
    map_domains,
)
from jax4dstem.domains.chains import linked_sets
from jax4dstem.domains.domain_map import Division, _by_size, _clarity, _closest, _divide
from jax4dstem.domains.gaps import gap_between, join_without_gaps
from jax4dstem.domains.peaks import density_peaks
from jax4dstem.domains.shares import Shares, share_out, without_mixtures
from jax4dstem.domains.signal import Signal, signal_components
from jax4dstem.domains.steps import steps_across
from jax4dstem.domains.unusual import typicality, unusual_positions
from jax4dstem.fields import merge
from jax4dstem.simulate import heterojunction, polycrystal

SQUARE = 15.0 * np.array([[0.0, 1.0], [-1.0, 0.0]])


def map_of(scan: Dataset):
    survey = survey_scan(scan)
    return map_domains(prepare_patterns(scan, survey, align_scan(scan, survey)))


def index(labels, truth) -> float:
    return adjusted_rand_score(np.ravel(truth), np.ravel(labels))


@pytest.fixture(scope="module")
def halves():
    """Two crystals in halves of a scan, 25 degrees apart; columns 10 to 13 hold both, with shares of 0.8 to 0.2 of the first."""
    turn = np.radians(25)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    left, right = (
        render(lattice, (24, 24), (64, 64), dose=3e4, radius=3.0, largest_strain=0.005, seed=seed).counts
        for lattice, seed in ((SQUARE, 1), (SQUARE @ matrix, 2))
    )  # fmt: skip
    share = np.interp(np.arange(24), [9, 10, 13, 14], [1, 0.8, 0.2, 0])
    rng = np.random.default_rng(3)
    part = np.broadcast_to(share[:, None, None], left.shape)
    mixed = rng.binomial(left, part) + rng.binomial(right, 1 - part)
    return map_of(Dataset.from_array(mixed)), share


@pytest.mark.whole
def test_shares_of_mixed_positions_are_found(halves):
    found, share = halves
    assert found.labels.max() == 1
    first = found.labels[12, 2]
    assert (found.labels[:, :11] == first).all()
    assert (found.labels[:, 13:] != first).all()
    of_first = np.where(found.labels == first, found.share, 1 - found.share)
    np.testing.assert_allclose(of_first.mean(axis=0)[10:14], share[10:14], atol=0.08)
    assert (found.second[:, 11:13] >= 0).mean() > 0.9
    assert (np.delete(found.second, range(9, 15), axis=1) >= 0).mean() < 0.02


@pytest.mark.whole
def test_it_is_a_result_beside_the_levels(halves):
    found, _ = halves
    tree = found.fields()
    again = type(found).from_fields(tree)
    np.testing.assert_array_equal(again.labels, found.labels)
    merge(tree, found.as_level().fields())
    assert list(Domains.from_fields(tree).labels) == ["level_1"]


@pytest.mark.whole
def test_the_materials_of_a_heterojunction_are_found():
    scan, truth = heterojunction((40, 40), seed=5)
    found = map_of(scan)
    assert index(found.labels, truth.label) > 0.97
    sure = found.confidence > 0.95
    assert index(found.labels[sure], truth.label[sure]) > 0.99


@pytest.mark.whole
@pytest.mark.parametrize("grains", [1, 5])
def test_there_are_as_many_grains_as_there_are(grains):
    scan, truth = polycrystal((32, 32), (64, 64), n_grains=grains, background=0.3, seed=4)
    found = map_of(scan)
    # Two of the five grains have some 30 positions, too few to be told from rims: they are one.
    assert len(found.size) == (1 if grains == 1 else 3)
    assert grains == 1 or index(found.labels, truth.grain) > 0.95


def test_a_beam_that_fills_the_detector_has_sums_too(rng):
    beam = rng.poisson(60.0 * (np.hypot(*(np.indices((48, 48)) - 23)) < 20), (3, 4, 48, 48))
    scan = Dataset.from_array(beam)
    survey = survey_scan(scan)
    prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
    features = choose_features(prepared, DiskSums())
    assert features.mask.any()
    assert feature_vectors(prepared, DiskSums(), features).sample.shape == features.scale.shape


@pytest.mark.whole
def test_vacuum_is_one_domain(rng):
    y, x = np.indices((48, 48))
    beam = 0.2 + 200 * (np.hypot(y - 23, x - 24) < 3)
    found = map_of(Dataset.from_array(rng.poisson(beam, (20, 20, 48, 48))))
    assert found.size.tolist() == [400]


def test_noise_has_no_signal_and_no_gaps(rng):
    signal = signal_components(rng.standard_normal((30, 30, 12)), np.ones((30, 30), bool))
    assert len(signal.ratio) == 0
    labels = join_without_gaps(signal.points, density_peaks(signal.points))
    assert labels.max() == 0


def test_signal_is_what_neighbors_share_in_units_of_noise(rng):
    scores = rng.standard_normal((40, 40, 6)) * [5, 1, 1, 1, 1, 1]
    scores[:, 20:, 3] += 12
    valid = np.ones((40, 40), bool)
    valid[3, 4] = False
    signal = signal_components(scores, valid)
    assert signal.points.shape == (1599, 1)
    steps = np.median(np.abs(np.diff(np.sort(signal.points[:, 0]))))
    assert steps < 0.1
    half = signal.points[np.argwhere(valid)[:, 1] < 20, 0]
    assert half.std() == pytest.approx(1, abs=0.15)
    shuffled = rng.permutation(scores.reshape(-1, 6)).reshape(scores.shape)
    assert len(signal_components(shuffled, valid).ratio) == 0


def curves(seed: int) -> np.ndarray:
    """Scores of three short curves in random order, with long tails, ``(12, 15, 24)``."""
    rng = np.random.default_rng(seed)
    signal = []
    for _ in range(3):
        along = rng.uniform(-1, 1, 60)[:, None]
        middle = rng.normal(0, 8, 6)
        signal.append(middle + 6 * np.sin(along * rng.uniform(1, 3, 6) + rng.uniform(0, 6, 6)))
    scores = rng.standard_t(2, (180, 24)) * np.geomspace(1, 0.05, 24)
    scores[:, :6] += np.concatenate(signal)
    order = rng.permutation(180)
    return scores[order].reshape(12, 15, 24)


def test_a_collection_of_curves_has_no_order():
    """Four of 400, those in which signal over noise is farthest above that of five random orders."""
    for seed in (231, 242, 356, 372):
        assert len(signal_components(curves(seed), np.ones((12, 15), bool)).ratio) == 0


def test_curves_are_cut_into_pieces_by_density_and_kept_by_chains():
    """Tilt series: how many patterns lie where on a curve is chance, and peaks of their density are pieces of it: in two of the first six seeds."""
    valid = np.ones((15, 20), bool)
    for seed in (4, 5):
        rng, label = np.random.default_rng(seed), np.arange(300) // 100
        along, points = rng.uniform(0, 2, 300), np.zeros((300, 10))
        points[:, :3] = np.stack([np.cos(along), np.sin(along), 0.4 * label], axis=1)
        points += 0.01 * rng.standard_normal((300, 10))
        assert index(join_without_gaps(points, density_peaks(points)), label) < 0.9
        assert index(join_without_gaps(points, linked_sets(points, 15)), label) == 1
        signal = Signal(points, np.zeros(0), points)
        assert index(_divide(signal, signal, valid, 0).labels, label) == 1


def test_a_coarser_division_counts_where_it_holds_together_much_better_and_says_enough():
    fine = Division(np.repeat([0, 1, 2, 3], 25), 0.8)
    coarse = np.repeat([0, 1, 1, 2], 25)
    assert _closest([fine, Division(coarse, 0.9)]).number == 3
    assert _closest([Division(coarse, 0.82), fine]).number == 4
    assert (
        _closest([fine, Division(np.repeat([0, 1], [95, 5]), 0.99)]).number == 4
    )  # a few outliers


def test_few_outliers_do_not_make_all_others_clear(rng):
    """As a mean over positions it is clearer than as a mean over domains."""
    points, few = rng.standard_normal((200, 3)), (np.arange(200) < 6).astype(int)
    points[:6] += 3 * rng.standard_normal((6, 3)) + [0, 7, 0]
    assert _clarity(points, few, None, 0) < _clarity(points, few, np.ones(200, bool), 0) - 0.1


def test_a_domain_without_positions_is_no_second_one():
    found = Shares(np.array([2, 2, 0]), np.ones(3), np.array([0, 1, -1]), np.ones(3))
    assert _by_size(found).label.tolist() == [0, 0, 1]
    assert _by_size(found).second.tolist() == [1, -1, -1]


def test_a_uniform_field_has_no_gap_and_two_sets_have_one(rng):
    field = np.stack([rng.uniform(0, 40, 1200), *rng.standard_normal((3, 1200))], axis=1)
    assert join_without_gaps(field, (field[:, 0] // 10).astype(int)).max() == 0
    assert gap_between(field[field[:, 0] < 15], field[field[:, 0] > 25]).parts


def test_rims_are_mixtures_and_not_domains(rng):
    points = rng.standard_normal((900, 5))
    labels = np.repeat([0, 1, 2, 3], [300, 300, 240, 60])
    points[labels == 1] += [30, 0, 0, 0, 0]
    points[labels == 2] += [15, 20, 0, 0, 0]
    points[labels == 3] += [12, 0, 0, 0, 0]
    left = without_mixtures(points, labels, np.ones((30, 30), bool))
    assert np.bincount(left).tolist() == [360, 300, 240]
    found = share_out(points, left)
    assert found.share[labels == 3].mean() == pytest.approx(0.6, abs=0.03)
    assert (found.second[labels == 3] == 1).all()


def test_confidence_is_the_share_of_positions_that_are_right(rng):
    truth = np.repeat([0, 1], 3000)
    share = np.where(rng.random(6000) < 0.5, 1.0, rng.uniform(0.5, 1, 6000))
    middle = np.where(truth, 0, 1) * share + np.where(truth, 1, 0) * (1 - share)
    points = rng.standard_normal((6000, 3))
    points[:, 0] += 8 * middle
    found = share_out(points, truth)
    right = found.label == truth
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 0.99)):
        some = (found.confidence >= low) & (found.confidence < high)
        assert abs(right[some].mean() - found.confidence[some].mean()) < 0.06


def test_borders_bridge_no_gap_and_smooth_variation_does(rng):
    """Two domains with a border three positions wide, and a field that varies all along."""
    columns = np.arange(40)
    for profile, apart in (
        (np.interp(columns, [18, 22], [0.0, 16.0]), True),
        (np.interp(columns, [0, 39], [0.0, 16.0]), False),
    ):
        maps = rng.standard_normal((40, 40, 3))
        maps[..., 0] += profile
        points, valid = maps.reshape(-1, 3), np.ones((40, 40), bool)
        steps = steps_across(points, valid)
        halves = (np.indices((40, 40))[1] >= 20).ravel()
        sets = [(points[rows], steps[:, rows]) for rows in (~halves, halves)]
        gap = gap_between(sets[0][0], sets[1][0], sets[0][1], sets[1][1])
        assert gap.parts == apart


def test_steps_are_differences_of_the_two_sides_where_there_are_positions(rng):
    maps, valid = rng.standard_normal((7, 8, 2)), np.ones((7, 8), bool)
    valid[2, 5] = False
    across = np.full((7, 8, 2), np.nan)
    across[valid] = steps_across(maps[valid], valid)[1]
    right, left = (valid[1:6, columns].reshape(-1) for columns in (slice(5, 7), slice(2, 4)))
    expected = maps[1:6, 5:7].reshape(-1, 2)[right].mean(axis=0) - maps[1:6, 2:4].reshape(-1, 2)[
        left
    ].mean(axis=0)
    np.testing.assert_allclose(across[3, 4], expected, rtol=1e-6)


def test_what_is_no_mixture_of_domains_is_unusual(rng):
    """Five positions of another kind are found among two thousand without order, of which many are mixtures of three domains."""
    corners = 25 * np.eye(3, 10)
    labels = rng.integers(0, 3, 2000)
    share = np.where(rng.random(2000) < 0.8, 1.0, rng.uniform(0.4, 1, 2000))[:, None]
    mixed = share * corners[labels] + (1 - share) * rng.dirichlet(np.ones(3), 2000) @ corners
    scores, rest = mixed + rng.standard_normal((2000, 10)), rng.chisquare(100, 2000)
    empty = np.full(10, -30.0)
    probability = typicality(scores, rest, labels, empty)
    for share_below in (0.01, 0.1):
        assert np.mean(probability < share_below) < 1.5 * share_below
    assert unusual_positions(probability).sum() <= 1
    scores[:3, 7] += 12  # seen by the components
    rest[3:5] += 150  # and not
    found = unusual_positions(typicality(scores, rest, labels, empty))
    assert found[:5].all()
    assert found.sum() <= 6


def test_faint_anomalies_are_seen_with_their_neighbors_and_by_their_amount(rng):
    """Sixteen positions that few of are found alone; a fade along the way to an empty pattern; a mixture far from any border."""
    valid = np.ones((40, 50), bool)
    labels = np.repeat([0, 1], 25)[None].repeat(40, axis=0).ravel()
    scores = rng.standard_normal((2000, 30))
    scores[:, 0] += np.where(labels, 6, -6)
    rest, empty = rng.chisquare(100, 2000), np.r_[0, -40, np.zeros(28)]
    nothing = typicality(scores, rest, labels, empty, valid)
    assert unusual_positions(nothing).sum() <= 1
    assert np.mean(nothing < 0.01) < 0.015
    maps = scores.reshape(40, 50, 30)
    maps[10:14, 5:9, 2] += 6
    maps[30, 10, 1] -= 7
    maps[5, 40, 0] -= 8
    where = np.zeros(valid.shape, bool)
    where[10:14, 5:9] = where[30, 10] = where[5, 40] = True
    found = unusual_positions(typicality(scores, rest, labels, empty, valid)).reshape(valid.shape)
    assert found[10:14, 5:9].mean() > 0.75
    assert found[30, 10]
    assert found[5, 40]
    assert (found & ~where).sum() <= 2
    without_order = unusual_positions(typicality(scores, rest, labels, empty))
    assert without_order.reshape(valid.shape)[10:14, 5:9].mean() < 0.5


def test_an_electron_here_and_there_is_not_unusual(rng):
    """Clean vacuum beside a crystal: of nearly all positions the features are the same, a few saw one electron."""
    labels = np.repeat([0, 1], 500)
    scores, rest = rng.standard_normal((1000, 5)), rng.chisquare(100, 1000)
    scores[500:], rest[500:] = 20.0, 50.0
    scores[500:510, 2] += 1.0
    rest[500:510] += 1.0
    valid = np.ones((20, 50), bool)
    assert not unusual_positions(typicality(scores, rest, labels, np.zeros(5), valid)).any()


@pytest.mark.whole
def test_a_few_patterns_of_another_crystal_are_unusual(halves):
    assert halves[0].unusual.sum() <= 1
    scan, _ = polycrystal((16, 16), (64, 64), n_grains=1, dose=1e6, background=0.2, seed=3)
    counts = np.array(scan.source.array)
    where = [2, 9, 9], [3, 9, 10]
    counts[where] = np.rot90(counts[where], axes=(1, 2))  # of a hexagonal lattice: by 30 degrees
    planted = map_of(Dataset.from_array(counts))
    assert planted.unusual[where].all()
    assert planted.unusual.sum() <= 4
