"""Doubts are said aloud: each with what was assumed and how to overrule it, and nothing found is no success."""

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest
from typer.testing import CliRunner

from jax4dstem import Calibration, Dataset, align_scan, open_results, survey_scan
from jax4dstem.cli import app
from jax4dstem.health import Evidence, Health, doubts, judge
from jax4dstem.health.rows import rows_that_fit_better
from jax4dstem.strain import NoStrain, StrainAnswers

CALIBRATED = Calibration(0.02, 1.0)


@pytest.fixture(scope="module")
def evidence():
    """Of a scan without fault."""
    y, x = np.indices((32, 32))
    beam = 1.0 + 60.0 * (np.hypot(y - 16, x - 15) < 3)
    scan = Dataset.from_array(np.random.default_rng(0).poisson(beam, (6, 7, 32, 32)))
    survey = survey_scan(scan)
    return Evidence(CALIBRATED, survey, align_scan(scan, survey))


def with_detector(evidence, **changes):
    detector = replace(evidence.survey.detector, **changes)
    return replace(evidence, survey=replace(evidence.survey, detector=detector))


def with_beam(evidence, **changes):
    return replace(evidence, beam=replace(evidence.beam, **changes))


def exchanged(evidence):
    flat = replace(evidence.survey, mean=np.full((32, 32), evidence.survey.mean.mean()))
    return replace(evidence, survey=flat)


def misread(evidence):
    """6 x 7 positions whose dose repeats after 6."""
    repeats = np.resize(np.linspace(2e3, 3e3, 6), 42).reshape(6, 7)
    return replace(evidence, survey=replace(evidence.survey, dose=repeats))


def few_electrons(evidence):
    return replace(evidence, survey=replace(evidence.survey, dose=evidence.survey.dose / 10))


FAULTS = {
    "calibration": lambda e: replace(e, calibration=Calibration()),
    "gain": lambda e: with_detector(e, source="assumed: counts are electrons"),
    "scaled counts": lambda e: with_detector(e, scaling="log(1 + n)"),
    "saturation": lambda e: with_detector(e, saturation=40.0),
    "blur": lambda e: with_detector(e, blur=0.7),
    "masked pixels": lambda e: with_detector(e, bad_pixels=np.eye(32) > 0),
    "direct beam": lambda e: with_beam(e, word="hidden"),
    "descan": lambda e: with_beam(e, surface=np.indices((6, 7)).transpose(1, 2, 0) * 1.0),
    "scan": misread,
    "dose": few_electrons,
    "strain": lambda e: replace(e, strain=NoStrain("no lattice found")),
    "axes": exchanged,
    "file": lambda e: replace(e, reading=("an aborted scan",)),
}


def test_a_scan_without_fault_has_no_doubts(evidence):
    health = judge(evidence)
    assert health.doubts == []
    assert len(health.lines) == len(health.found) == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_doubt_that_says_what_to_do(evidence, fault):
    health = judge(FAULTS[fault](evidence))
    (doubt,) = health.doubts
    assert doubt.subject == fault
    assert doubt.text
    assert doubt.assumed
    assert "--" in doubt.remedy or "info" in doubt.remedy or "no option" in doubt.remedy
    assert any(doubt.remedy in line for line in health.lines)


def test_many_doubts_are_a_few_lines_and_the_worst_come_first(evidence):
    for make in FAULTS.values():
        evidence = make(evidence)
    health = judge(evidence)
    assert set(health.subject) == set(FAULTS)
    assert health.subject[0] == "strain"
    assert health.no_strain == "no lattice found"
    assert len(health.lines) == 8
    assert "more in the report" in health.lines[-1]


def test_health_survives_its_fields(evidence):
    health = judge(FAULTS["gain"](evidence))
    again = Health.from_fields(health.fields())
    assert again.doubts == health.doubts
    assert again.no_strain is None


Y, X = np.indices((12, 20))
IMAGES = {
    "grain": np.hypot(Y - 5, X - 8) < 4.5,
    "descan": 0.1 * X + 0.03 * Y,
    "step": X > 11,
    "blobs": np.sin(X / 2.3) + np.cos(Y / 3 + X / 5),
    "layers": Y // 3 % 2,
    "ramp": Y,
    "stripes": X % 4 < 2,
    "nothing": 0 * X,
}


@pytest.mark.parametrize("name", IMAGES)
def test_rows_of_another_length_are_told_by_what_repeats(name, rng):
    image = IMAGES[name] + 0.1 * rng.standard_normal(X.shape)
    assert rows_that_fit_better(image) is None
    wrong = rows_that_fit_better(image.reshape(20, 12))
    assert wrong == (None if name in ("layers", "ramp", "nothing", "stripes") else (12, 20))


@pytest.mark.parametrize(("radius", "share", "said"), [(11, 0.1, 1), (11, 0.9, 0), (5, 0.1, 0)])
def test_little_strain_of_disks_that_overlap_says_so(evidence, radius, share, said):
    strain = create_autospec(StrainAnswers, instance=True)
    strain.strain = SimpleNamespace(ok=(np.arange(42) < 42 * share).reshape(6, 7))
    strain.model = SimpleNamespace(radius=radius, lattice=20.0 * np.eye(2))
    assert len(list(doubts._overlap(replace(evidence, strain=strain)))) == said


@pytest.mark.parametrize(("lost", "said"), [(0, 0), (2, 1)])
def test_masked_positions_are_none_without_strain(evidence, lost, said):
    """Three rows of six are masked; of the others, some may show no lattice."""
    status = np.zeros((6, 7), np.int8)
    status[: 3 + lost] = 2
    masked = np.arange(6)[:, None] < np.full(7, 3)
    strain = create_autospec(StrainAnswers, instance=True)
    strain.strain = SimpleNamespace(ok=status == 0, status=status)
    seen = replace(evidence, strain=strain, survey=replace(evidence.survey, masked=masked))
    told = [doubt.text for doubt in doubts._few_strains(seen)]
    assert told == ["7 of 21 positions have strain; 14 no lattice"] * said


def with_scatter(evidence, of_disks):
    strain = create_autospec(StrainAnswers, instance=True)
    strain.strain = SimpleNamespace(ok=np.ones(9, bool))
    strain.lattice = SimpleNamespace(dispersion=np.ones(9))
    strain.model = SimpleNamespace(dispersion=np.array([9.0, *of_disks]))
    return replace(evidence, strain=strain)


@pytest.mark.parametrize(
    ("of_disks", "said"), [([1, 1, 1, 1], 0), ([0.3] * 4, 1), ([1, 1, 3, 4], 0), ([2] * 4, 1)]
)
def test_noise_that_no_disk_has_is_said(evidence, of_disks, said):
    """Bright disks that are not as modelled scatter more, and say nothing of the detector."""
    assert len(list(doubts._dispersion(with_scatter(evidence, of_disks)))) == said


@pytest.mark.parametrize(
    ("subject", "detector"),
    [
        ("scaled counts", {"linearity": 0.5}),
        ("gain", {"source": "assumed: the scan shows no noise"}),
        ("noise", {}),
    ],
)
def test_noise_that_is_not_that_of_electrons_is_one_doubt(evidence, subject, detector):
    """Thresholded counts scatter too little in bright pixels and around disks: one cause, as that of a gain that is not known."""
    seen = with_scatter(with_detector(evidence, **detector), [0.3] * 4)
    asked = (doubts._scaling, doubts._gain, doubts._dispersion)
    (doubt,) = (each for ask in asked for each in ask(seen))
    assert doubt.subject == subject
    assert "0.3 times the variance" in doubt.text


def test_no_position_with_strain_is_status_2_after_the_results_are_written(tmp_path):
    """Vacuum: a direct beam and nothing else."""
    y, x = np.indices((48, 48))
    beam = 0.2 + 40.0 * (np.hypot(y - 23, x - 25) < 3)
    np.save(tmp_path / "vacuum.npy", np.random.default_rng(1).poisson(beam, (8, 8, 48, 48)))
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["strain", str(tmp_path / "vacuum.npy"), "-o", str(out)])
    assert result.exit_code == 2, result.output
    health = open_results(out).health
    assert health.no_strain in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "NO strain" in result.stdout
    assert "Health" in (out / "report.html").read_text()
