"""Changes over the scan: what a probe makes of a border is one, what goes on over many positions is none, small turns are the same pattern."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from second_renderer import render

from jax4dstem import Dataset, align_scan, prepare_patterns, survey_scan
from jax4dstem.domains.gradual import join_gradual
from jax4dstem.domains.turns import correlation_when_turned, same_but_turned

DATA = Path(__file__).parent / "data"
WIDE = np.ones((24, 60), bool)
THIRDS = np.repeat([0, 1, 2], 20)
CUT = np.broadcast_to(THIRDS, WIDE.shape).ravel()


def features(ramp, step, probe, rng):
    """A ramp over the first two thirds and a step at the last; noise of 1; two directions."""
    x = np.arange(60.0)
    along = np.clip((x - 8) / 24, 0, 1) * ramp + (x >= 40) * step
    along = ndimage.gaussian_filter1d(along, probe, mode="nearest")
    maps = np.stack([np.broadcast_to(along, WIDE.shape), np.zeros(WIDE.shape)], axis=-1)
    return (maps + rng.normal(0, 1, maps.shape)).reshape(-1, 2)


@settings(max_examples=20, deadline=None)
@given(
    ramp=st.floats(30, 40), step=st.floats(45, 90), probe=st.floats(0.3, 0.8), seed=st.integers(0, 99)
)  # fmt: skip
def test_a_ramp_is_one_domain_and_a_step_is_two(ramp, step, probe, seed):
    points = features(ramp, step, probe, np.random.default_rng(seed))
    found = join_gradual(points, CUT, WIDE)
    assert found.tolist() == (CUT == 2).tolist()


@settings(max_examples=20, deadline=None)
@given(probe=st.floats(0.3, 1.2), seed=st.integers(0, 99))
def test_steps_stay(probe, seed):
    x = np.broadcast_to(THIRDS * 20.0, WIDE.shape)
    blurred = ndimage.gaussian_filter1d(x, probe, axis=1, mode="nearest")
    points = blurred + np.random.default_rng(seed).normal(0, 1, blurred.shape)
    assert (join_gradual(points.reshape(-1, 1), CUT, WIDE) == CUT).all()


@settings(max_examples=20, deadline=None)
@given(sharp=st.floats(1.0, 1.25), ratio=st.floats(1.0, 1.4), seed=st.integers(0, 99))
def test_a_border_somewhat_wider_than_the_sharpest_stays(sharp, ratio, seed):
    """Inclined facets, and the long tails of a probe where little stands beside much."""
    x = np.arange(60.0)
    edges = [
        ndimage.gaussian_filter1d(np.where(x >= at, 40.0, 0.0), width, mode="nearest")
        for at, width in ((20, sharp), (40, sharp * ratio))
    ]
    along = np.broadcast_to(sum(edges), WIDE.shape)
    points = (along + np.random.default_rng(seed).normal(0, 1, WIDE.shape)).reshape(-1, 1)
    assert (join_gradual(points, CUT, WIDE) == CUT).all()


@pytest.mark.parametrize("flanks", [(1.5, 1.5), (1.5, -1.5), (0, 2)])
def test_domains_that_bend_beside_a_border_are_two(rng, flanks):
    """What changes on either side, over many positions, by as much as the border itself."""
    x = np.arange(60.0) - 29.5
    along = np.where(x < 0, flanks[0], flanks[1]) * x + 40 * ndimage.gaussian_filter1d(np.sign(x), 1.0) / 2  # fmt: skip
    points = (along + rng.normal(0, 1, WIDE.shape)).reshape(-1, 1)
    labels = np.broadcast_to(np.arange(60) >= 30, WIDE.shape).ravel().astype(int)
    assert (join_gradual(points, labels, WIDE) == labels).all()


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="an error that holds how lines along a border differ keeps it, and cuts the bent core of a core-shell particle",
)
def test_a_twin_stays_where_thickness_and_bend_change_as_much():
    """Components of sums, in units of the noise, of gold and its twin by Bloch waves (abTEM; experiments/dynamical), and the parts that gaps left there."""
    with np.load(DATA / "dynamical_twins.npz") as file:
        features, parts, twin = (file[name] for name in ("features", "found", "twin"))
    points = features.reshape(parts.size, -1).astype(float)
    domains = join_gradual(points, parts.ravel(), np.ones(parts.shape, bool))
    share = [twin.ravel()[domains == n].mean() for n in range(domains.max() + 1)]
    assert all(one < 0.1 or one > 0.9 for one in share), share


def test_positions_without_patterns_and_borders_of_a_few_positions_are_not_judged():
    valid = WIDE.copy()
    valid[:, 18:22] = False  # a gap as wide as the ramp is steep
    points = features(30, 30, 0.5, np.random.default_rng(0))[valid.ravel()]
    labels = CUT[valid.ravel()]
    assert (join_gradual(points, labels, valid) == labels).all()


def turned(by):
    angle = np.radians(by)
    return (
        15.0
        * np.array([[0.0, 1.0], [-1.0, 0.0]])
        @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    )


@pytest.mark.parametrize(("by", "same"), [(2.5, True), (20.0, False)])
def test_small_turns_are_the_same_pattern(by, same):
    parts = [
        render(turned(angle), (8, 8), (64, 64), dose=1e5, radius=3.0, largest_strain=0.003, seed=7).counts
        for angle in (0, by)
    ]  # fmt: skip
    scan = Dataset.from_array(np.concatenate(parts, axis=1))
    survey = survey_scan(scan)
    prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
    fine = np.repeat([[0, 1]], 8, axis=0).repeat(8, axis=1)[prepared.valid]
    assert same_but_turned(prepared, fine, np.zeros_like(fine)) == same
    assert same_but_turned(prepared, fine, fine)  # joins nothing


def test_spots_correlate_when_turned_by_less_than_five_degrees():
    spots = np.zeros((4, 720))
    spots[:, ::120] = 1
    spots = ndimage.gaussian_filter1d(spots, 2, axis=1, mode="wrap")
    correlation = [correlation_when_turned(spots, np.roll(spots, step)) for step in (0, -9, 10, 30)]
    assert correlation[:3] == pytest.approx([1, 1, 1])
    assert correlation[3] < 0.1
