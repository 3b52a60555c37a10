"""Two runs on one scan compared: what agrees is 1, what differs is told in error bars, what cannot be compared in one line."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from jax4dstem import Dataset, InputError
from jax4dstem.beam import VirtualImages
from jax4dstem.cli import app
from jax4dstem.domains import Domains
from jax4dstem.pipeline import STAGES, Results, analyze, compare_results
from jax4dstem.pipeline.compare import _compared
from jax4dstem.strain import StrainMap

ABOUT = {"scan_shape": np.array([20, 30]), "input_hash": "a", "input_path": "scan.h5"}


def results(rng, labels, noise=0.0):
    image = np.arange(600.0).reshape(20, 30) + noise * rng.normal(size=(20, 30))
    images = VirtualImages(image, image, np.zeros((20, 30, 2)), np.ones(3))
    none, size = np.full(3, -1, np.int32), np.bincount(labels.ravel()).astype(np.int32)
    domains = Domains({"level_1": labels}, none, size, np.full(1, np.nan), {})
    return Results(images=images, domains=domains, about=ABOUT)


@pytest.fixture
def labels():
    return np.repeat(np.arange(3, dtype=np.int32), 200).reshape(20, 30)


def test_a_run_agrees_with_itself_whatever_its_numbers(rng, labels):
    found = compare_results(results(rng, labels), results(rng, 2 - labels))
    assert found.index.tolist() == found.share.tolist() == [1.0]
    assert found.number.tolist() == [[3, 3]]
    np.testing.assert_allclose(found.correlation, 1)
    assert found.notes.tolist() == [
        "the first run has no strain", "the first run has no domain map",
        "the second run has no strain", "the second run has no domain map",
    ]  # fmt: skip


def test_what_differs_is_told(rng, labels):
    moved = np.where(np.arange(30) < 3, 2, labels).astype(np.int32)
    other = replace(results(rng, moved, noise=100.0), about=ABOUT | {"input_hash": "b"})
    found = compare_results(results(rng, labels), other)
    assert found.share[0] == pytest.approx((moved == labels).mean())
    assert 0.5 < found.index[0] < 0.95
    assert 0.8 < found.correlation[0] < 0.99
    assert found.notes[0] == "the two runs are of different data"


def strain(rng, truth, sigma):
    values = truth + sigma * rng.normal(size=(4, 40, 50))
    covariance = np.tile(sigma**2 * np.eye(4), (40, 50, 1, 1))
    status = np.zeros((40, 50), np.int8)
    status[:2] = 2
    values[:, :2] = np.nan
    return StrainMap(*values, covariance, status, 12 * np.eye(2), "given")


def test_strain_differs_by_its_error_bars(rng):
    truth = rng.uniform(-0.02, 0.02, (4, 40, 50))
    one, other = strain(rng, truth, 1e-3), strain(rng, truth, 2e-3)
    other = replace(
        other, e_yy=other.e_yy + 0.01, theta=other.theta + np.pi / 2
    )  # a square lattice
    rows = {name: values for name, *values in _compared("pattern", one, other)}
    for name in ("e_xx", "e_xy", "theta"):
        positions, offset, scatter, bars, beyond = rows[f"pattern {name}"]
        assert positions == 38 * 50
        assert abs(offset) < 5e-4
        assert scatter == pytest.approx(5**0.5 * 1e-3, rel=0.1)
        assert bars == pytest.approx(1, rel=0.1)
        assert beyond < 0.01
    _, offset, _, bars, beyond = rows["pattern e_yy"]
    assert offset == pytest.approx(0.01, rel=0.05)
    assert bars > 5
    assert beyond > 0.8


def test_other_scans_are_told_in_one_line(rng, labels):
    found = results(rng, labels)
    other = replace(found, about=ABOUT | {"scan_shape": np.array([20, 31])})
    with pytest.raises(InputError, match="the scans have 20 x 30 and 20 x 31 positions: compare"):
        compare_results(found, other)
    with pytest.raises(InputError, match="no domains, images or strain in common"):
        compare_results(found, Results(about=ABOUT))


def test_the_command_prints_a_table(tmp_path, rng):
    scan = Dataset.from_array(rng.poisson(9.0, (3, 4, 16, 16)))
    for name in ("one", "two"):
        analyze(scan, tmp_path / name, {"seed": len(name)}, lambda line: None, STAGES[:3])
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "one"), str(tmp_path / "two")])
    assert result.exit_code == 0, result.output
    assert "bright_field" in result.output
    assert "1.0000" in result.output
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "one"), str(tmp_path / "none")])
    assert result.exit_code == 1
    assert result.output.startswith("error: there are no results at")
