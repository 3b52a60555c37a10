"""Answers of the room `strain`: their fields, round trips, blocks, references, and all ways chained."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem import InputError
from jax4dstem.coordinates import Calibration
from jax4dstem.fields import Field, Result
from jax4dstem.io.results import read_group, write_group
from jax4dstem.lattice.model import starting_model
from jax4dstem.simulate import polycrystal
from jax4dstem.strain import (
    BaseStrain,
    BaseTable,
    Derived,
    LatticeStrain,
    LearnedModel,
    NoStrain,
    PooledStrain,
    StrainAnswers,
    StrainMap,
    StrainMeasurement,
    StrainReference,
    StrainWays,
    derive,
    find_strain,
    measure_strain,
    strain_in_blocks,
)
from jax4dstem.strain.neighbors import spread_over

pytestmark = pytest.mark.whole


HEXAGONAL = 28.0 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])
METHODS = ("lattice", "pooled", "bases", "cepstrum")


def some_map(rng, shape=(3, 4)) -> StrainMap:
    covariance = np.tile(1e-6 * np.eye(4), (*shape, 1, 1))
    values = [1e-3 * rng.standard_normal(shape) for _ in range(4)]
    status = rng.integers(0, 2, shape).astype(np.int8)
    return StrainMap(*values, covariance, status, HEXAGONAL, "given lattice")


def some_answers(rng, shape=(3, 4)) -> StrainAnswers:
    strain = some_map(rng, shape)

    def maps(*tail: int) -> np.ndarray:
        return rng.standard_normal((*shape, *tail)).astype(np.float32)

    status = strain.status
    lattice = LatticeStrain(
        strain, maps(2), maps(2, 2), maps(), maps(), maps(), maps(2), np.abs(maps()), status == 0
    )
    model = starting_model(HEXAGONAL, np.array([[0, 0], [1, 0], [0, 1]]), 4.0)
    table = BaseTable(maps(4)[0], np.tile(np.eye(4), (shape[1], 1, 1)), np.ones(shape[1]))
    base, count = np.zeros(shape, np.int32), np.ones(shape, np.int16)
    return StrainAnswers(
        lattice=lattice,
        learned=LearnedModel(model, 1.5),
        pooled=PooledStrain(strain, maps(), count),
        derived=derive(strain),
        bases=BaseStrain(
            strain, table, base, "a note", second=base, share=maps(), share_std=maps()
        ),
        cepstrum=strain,
    )


def assert_same(left, right) -> None:
    """Results are the same, attribute by attribute."""
    assert type(left) is type(right)
    for field in dataclasses.fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, Result):
            assert_same(a, b)
        elif isinstance(a, tuple) and hasattr(a, "_fields"):
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
                np.testing.assert_array_equal(x, y)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype, field.name
        else:
            assert a == b, field.name


ANSWERS = {
    "map": lambda a: a.cepstrum,
    "lattice": lambda a: a.lattice,
    "model": lambda a: a.learned,
    "measurement": lambda a: StrainMeasurement(a.lattice, a.learned),
    "pooled": lambda a: a.pooled,
    "table": lambda a: a.bases.table,
    "bases": lambda a: a.bases,
    "bases without sums": lambda a: dataclasses.replace(
        a.bases, second=None, share=None, share_std=None
    ),
    "derived": lambda a: a.derived,
    "all": lambda a: a,
    "few patterns": lambda a: dataclasses.replace(
        a, bases=None, cepstrum=None, no_bases="only 3 positions"
    ),
    "none": lambda a: NoStrain("no lattice found"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_read_back_as_they_were(name, rng, tmp_path):
    answer = ANSWERS[name](some_answers(rng))
    assert_same(type(answer).from_fields(answer.fields()), answer)
    write_group(tmp_path / "answer.h5", answer.fields(), {})
    read = _with_dims(read_group(tmp_path / "answer.h5")[0])
    assert_same(type(answer).from_fields(read), answer)


def _with_dims(tree):
    """Fields of a file that names no dimensions."""
    return {
        name: _with_dims(item)
        if isinstance(item, dict)
        else Field(item.data, dims=tuple(f"{n}" for n in range(np.ndim(item.data))))
        for name, item in tree.items()
    }


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31 - 1))
def test_scans_of_any_shape_are_read_back(rows, cols, seed):
    answer = some_answers(np.random.default_rng(seed), (rows, cols))
    assert_same(StrainAnswers.from_fields(answer.fields()), answer)


def test_a_strain_map_says_its_errors_and_what_they_mean(rng):
    strain = some_map(rng)
    fields = strain.fields()
    for name in ("e_xx", "e_yy", "e_xy", "theta"):
        np.testing.assert_array_equal(fields[f"{name}_std"].data, strain.std(name))
        assert fields[name].dims == fields[f"{name}_std"].dims == ("scan_y", "scan_x")
    assert fields["theta"].units == fields["theta_std"].units == "rad"
    assert fields["reference"].dims == ("vector", "yx")
    assert fields["reference_source"].data == "given lattice"
    assert "2 no_lattice" in fields["status"].description


def test_results_are_xarray_trees_with_coordinates(rng):
    tree = some_answers(rng).to_xarray(Calibration(scan_step_nm=0.5))
    for method in METHODS:
        assert tree[f"strain/{method}/e_xx"].dims == ("scan_y", "scan_x")
        assert tree[f"strain/{method}/e_xx"].scan_x.values.tolist() == [0, 0.5, 1, 1.5]
    assert tree["strain/model/intensity"].dims == ("reflection",)
    assert tree["strain/bases/table/strain"].dims == ("base", "component")


def test_only_maps_are_spread_over_the_scan(rng):
    """Where a scan has 2 x 2 blocks, what is 2 x 2 without being a map stays as it is."""
    few = some_answers(rng, (2, 2))
    wide = spread_over(few, (2, 2), (8, 9), 4)
    assert wide.model.lattice.shape == (2, 2)
    assert wide.strain.reference.shape == (2, 2)
    assert wide.bases.table.covariance.shape == (2, 4, 4)
    assert wide.lattice.distortion.shape == (8, 9, 2, 2)
    np.testing.assert_array_equal(wide.pooled.n_pooled[:4, :4], few.pooled.n_pooled[0, 0])
    assert wide.derived.burgers.shape == (8, 9, 2)
    # A ninth column belongs to the last block.
    np.testing.assert_array_equal(wide.strain.e_xx[7, 8], few.strain.e_xx[1, 1])


def test_references_are_checked_where_they_are_made():
    with pytest.raises(InputError, match="outside the 4 x 6 scan"):
        StrainReference.rectangle((4, 6), (0, 5, 0, 2))
    with pytest.raises(InputError, match="no cluster of level 1"):
        StrainReference.domain(np.zeros((4, 6), int), 3)
    with pytest.raises(InputError, match="no cluster of level 1"):
        StrainReference.domain(None, 0)
    with pytest.raises(InputError, match="needs the detector's calibration"):
        StrainReference.crystal("x.cif", (0, 0, 1), Calibration())
    with pytest.raises(InputError, match="span no lattice"):
        StrainReference.vectors((1.0, 0.0), (2.0, 0.0))
    assert StrainReference.domain(np.eye(3, dtype=int), 1).among.sum() == 3
    # A block belongs to a region when its middle position does.
    region = StrainReference.rectangle((6, 7), (0, 3, 0, 7)).in_blocks(2, (3, 3))
    assert region.among.tolist() == [[True] * 3, [False] * 3, [False] * 3]


@pytest.fixture(scope="module")
def found():
    scan, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
    reference = StrainReference.vectors(*truth.vectors)
    return scan, truth, find_strain(scan, truth.parameters.center, 4.2, reference=reference)


def test_all_ways_agree_on_a_polycrystal(found):
    _, truth, answers = found
    inside = truth.interior
    for method, limit in zip(METHODS, (4e-3, 3e-3, 3e-3, 0.03), strict=True):
        way = getattr(answers, method)
        strain = way if isinstance(way, StrainMap) else way.strain
        gap = (strain.e_xx - truth.e_xx)[inside & strain.ok]
        assert np.abs(gap).mean() < limit, method
    assert isinstance(answers.derived, Derived)
    assert answers.bases.share.shape == (12, 12)
    read = StrainAnswers.from_fields(answers.fields())
    sample = np.ones((3, 20), np.float32)
    np.testing.assert_allclose(
        read.bases.trained.apply("posterior", sample),
        answers.bases.trained.apply("posterior", sample),
    )


def test_strain_is_given_relative_to_another_reference_without_fitting_again(found):
    _, truth, answers = found
    stretched = truth.vectors / np.array([1.0, 1.02])  # the reference is longer along x
    region = StrainReference.region(np.arange(144).reshape(12, 12) < 60)
    for reference in (StrainReference.vectors(*stretched), region):
        again = answers.relative_to(reference).strain
        np.testing.assert_array_equal(again.status, answers.strain.status)
    moved = answers.relative_to(StrainReference.vectors(*stretched))
    assert moved.strain.reference_source == "given lattice"
    back = moved.relative_to(StrainReference.vectors(*truth.vectors)).strain
    for name in ("e_xx", "e_yy", "e_xy", "theta"):
        np.testing.assert_allclose(getattr(back, name), getattr(answers.strain, name), atol=1e-6)
    np.testing.assert_allclose(back.covariance, answers.strain.covariance, rtol=1e-3, atol=1e-10)
    # A median is a lattice like any other; in reciprocal space its cell is smaller by the median dilatation.
    median = answers.relative_to(StrainReference.median()).strain
    cell = np.linalg.det(median.reference) / np.linalg.det(truth.vectors)
    dilatation = np.nanmedian(answers.strain.e_xx + answers.strain.e_yy)
    assert cell == pytest.approx(1 / (1 + dilatation), abs=5e-3)
    named = StrainReference.vectors(*median.reference)
    same = answers.relative_to(named).strain
    np.testing.assert_array_equal(same.e_xx, median.e_xx)


def test_strain_of_blocks_has_the_size_of_the_scan(found):
    scan, truth, _ = found
    center = np.asarray(truth.parameters.center)
    reference = StrainReference.vectors(*truth.vectors)
    ways = StrainWays(further=())
    answers = strain_in_blocks(scan, center, 4.2, 6, reference=reference, ways=ways)
    assert answers.strain.e_xx.shape == (12, 12)
    assert np.ptp(answers.strain.e_xx[:6, :6]) == 0  # one value per block
    assert answers.model.lattice.shape == (2, 2)
    assert answers.no_bases is not None  # four blocks are too few
    assert answers.bases is None
    with pytest.raises(InputError, match="smaller than blocks"):
        strain_in_blocks(scan, center, 4.2, 13)


def test_a_region_of_another_scan_is_refused(found):
    scan, truth, _ = found
    region = StrainReference.region(np.ones((3, 3), bool))
    with pytest.raises(InputError, match="has the shape"):
        measure_strain(scan, truth.parameters.center, 4.2, reference=region)
