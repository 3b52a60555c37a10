"""The direct beam with doubt: where it is hidden, outshone, cut or moving, the center is right or the doubt says so."""

from typing import NamedTuple

import numpy as np
import pytest
from second_renderer import disk
from typer.testing import CliRunner

from jax4dstem import Dataset, InputError, align_scan, survey_scan
from jax4dstem.beam import positions
from jax4dstem.cli import app

SQUARE = 20.0 * np.array([[0.0, 1.0], [-1.0, 0.0]])
OBLIQUE = np.array([[1.0, 18.0], [-15.0, 6.0]])
Y, X = np.indices((88, 92))


class Made(NamedTuple):
    counts: np.ndarray
    center: np.ndarray


def made_scan(lattice=SQUARE, dose=2e4, drift=2.0, center=(43.2, 45.6)):
    """A crystal whose beam drifts smoothly: disks that get weaker outwards, on a halo."""
    rng = np.random.default_rng(3)
    i, j = np.indices((4, 5)) / 4 - 0.5
    centers = np.array(center) + drift * np.stack([i, 0.6 * j + 0.2 * i * j], -1)
    counts = np.zeros((4, 5, *Y.shape), np.uint16)
    for where in np.ndindex(4, 5):
        y, x = centers[where]
        distance = np.hypot(Y - y, X - x)
        pattern = 0.2 * np.exp(-distance / 20) / 2500
        for h, k in np.ndindex(7, 7):
            g = np.array([h - 3, k - 3]) @ lattice
            share = 0.4 if h == k == 3 else 0.08 * np.exp(-np.hypot(*g) / 25)
            window, covered = disk(Y.shape, centers[where] + g, 4.0)
            pattern[window] += share * covered / 50
        counts[where] = rng.poisson(dose * pattern)
    return Made(counts, centers)


def with_stop(made, radius=7.0):
    """A round beam stop and its arm: no counts, ever."""
    stop = (np.hypot(Y - 43, X - 46) < radius) | ((abs(Y - 43) < 2) & (X > 46))
    return np.where(stop, 0, made.counts).astype(np.uint16)


def aligned(counts, **options):
    scan = Dataset.from_array(counts)
    return align_scan(scan, survey_scan(scan), **options)


def errors(found, made):
    return np.linalg.norm(found.center - made.center, axis=-1)


@pytest.mark.parametrize("lattice", [SQUARE, OBLIQUE])
def test_behind_a_beam_stop_the_center_is_that_of_symmetry(lattice):
    made = made_scan(lattice)
    found = aligned(with_stop(made))
    assert found.hidden
    assert "hide it" in found.word
    assert np.median(errors(found, made)) < 0.15
    assert np.mean(errors(found, made) <= found.doubt) > 0.9


def test_a_seen_beam_is_known_to_less_than_its_doubt():
    made = made_scan()
    found = aligned(made.counts)
    assert not found.hidden
    assert found.word == ""
    assert np.mean(errors(found, made) <= found.doubt) >= 0.95
    assert np.median(errors(found, made)) < 0.1


def test_a_disk_that_outshines_the_beam_in_a_fifth_of_the_scan_is_not_taken_for_it():
    made = made_scan()
    counts = made.counts.astype(np.int64)
    for where in np.ndindex(4, 1):
        y, x = made.center[where]
        spot = np.hypot(Y - y + 20, X - x) < 4
        counts[where] += np.random.default_rng(where).poisson(200 * spot)
    found = aligned(counts.astype(np.uint16))
    assert errors(found, made).max() < 2
    assert "outshines" in found.word


def test_a_beam_that_jumps_between_disks_is_in_doubt_everywhere(monkeypatch):
    """As where the beam is faint and no two partners are alike, so that noise chooses among the disks."""
    made = made_scan()
    scan = Dataset.from_array(made.counts)
    right = align_scan(scan, survey_scan(scan))
    assert right.word == ""
    there = np.random.default_rng(0).random((4, 5)) < 0.5
    fit = positions.fit_descan

    def torn(*args, **options):
        found = fit(*args, **options)
        return found._replace(
            center=np.where(there[..., None], found.center + np.array([0.0, 20.0]), found.center)
        )

    monkeypatch.setattr(positions, "fit_descan", torn)
    monkeypatch.setattr(positions, "has_partners", lambda *_: False)
    found = align_scan(scan, survey_scan(scan))
    assert "jumps by more than its radius" in found.word
    assert (found.doubt > 20).all()


def test_a_beam_that_the_edge_cuts_is_said():
    made = made_scan()
    found = aligned(made.counts[:, :, 43:])
    assert "edge cuts" in found.word
    assert np.median(found.doubt) > 0.9


def test_a_given_center_is_where_the_beam_is_looked_for():
    made = made_scan()
    stopped = with_stop(made)
    middle = made.center.mean(axis=(0, 1))
    assert np.median(errors(aligned(stopped, center=middle), made)) < 0.3
    told = aligned(stopped, center=made.center, align=False)
    np.testing.assert_allclose(told.center, made.center, rtol=1e-6)
    assert np.isnan(told.doubt).all()
    assert "left out" in aligned(made.counts, align=False).word
    assert not aligned(made.counts, center=made.center, align=False).word
    elsewhere = middle + np.array([3, -4])
    assert "lies 5.0 px from" in aligned(made.counts, center=elsewhere, align=False).word
    with pytest.raises(InputError, match="one per position"):
        aligned(stopped, center=np.zeros(3))


@pytest.mark.parametrize(
    ("center", "message"),
    [("99,3", "outside of the 88 x 92"), ("1", "expects 2 numbers"), ("no.npy", "no file no.npy")],
)
def test_centers_that_do_not_fit_are_told_before_any_compute(center, message, tmp_path):
    np.save(tmp_path / "scan.npy", made_scan().counts)
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app, ["strain", str(tmp_path / "scan.npy"), "-o", str(out), "--center", center]
    )
    assert result.exit_code == 1
    assert message in result.stderr
    assert not out.exists()
