"""The pipeline adds nothing: public functions give every field of a results file."""

import re

import numpy as np
import pytest

from jax4dstem import Results, beam, domains
from jax4dstem.fields import Field, Tree, merge
from jax4dstem.health import Evidence, judge
from jax4dstem.pipeline import analyze_in_memory, load_recipe
from jax4dstem.simulate import polycrystal
from jax4dstem.strain import StrainWays, find_strain, strain_examples

pytestmark = pytest.mark.whole


QUICK = {
    "embed.umap": False,
    "cluster.methods": ["kmeans"],
    "strain.bases": 0,
    "strain.further": [],
}


@pytest.fixture(scope="module")
def scan():
    return polycrystal((8, 8), (64, 64), background=0.1, n_grains=2, seed=4)[0]


def by_hand(scan) -> Tree:
    """All answers of the default run but the parts that `QUICK` leaves out, by public calls only."""
    survey = beam.survey_scan(scan)
    positions = beam.align_scan(scan, survey)
    images = beam.measure_images(scan, survey, positions)
    prepared = beam.prepare_patterns(scan, survey, positions)
    domain_map = domains.map_domains(prepared)
    kind = domains.VaryingPixels()
    features = domains.choose_features(prepared, kind)
    vectors = domains.feature_vectors(prepared, kind, features)
    scores = domains.score_features(vectors, survey.valid)
    found = domains.find_domains(scores.scores, [domains.KMeansSplitter()])
    tables = domains.describe_map(domain_map, prepared, images.annular_dark_field, levels=found)
    strain = find_strain(
        survey.electrons(scan),
        positions.center,
        positions.radius,
        ways=StrainWays(bases=0, further=()),
        detector=survey.detector.of_electrons,
    )
    crystals = domains.measure_crystals(
        domain_map, strain.shown_lattices, pixel=scan.calibration.pixel_inv_angstrom
    )
    examples = strain_examples(survey.electrons(scan), strain, 1 - domain_map.confidence)
    doubts = judge(Evidence(scan.calibration, survey, positions, domain_map, strain, scan.doubts))
    tree: Tree = {}
    for answer in (
        survey,
        positions,
        images,
        domain_map,
        features,
        scores,
        found,
        tables,
        strain,
        crystals,
        examples,
        doubts,
    ):
        merge(tree, answer.fields())
    return tree


def leaves(tree: Tree, path: str = "") -> dict[str, Field]:
    found = {}
    for name, item in tree.items():
        found |= (
            leaves(item, f"{path}/{name}") if isinstance(item, dict) else {f"{path}/{name}": item}
        )
    return found


@pytest.fixture(scope="module")
def made(scan):
    return leaves(analyze_in_memory(scan, load_recipe(None, QUICK)).fields())


def test_public_calls_give_every_field_of_the_results(scan, made):
    called = leaves(by_hand(scan))
    assert set(called) == set(made)
    assert len(made) > 90
    for path, field in made.items():
        assert field.dims == called[path].dims, path
        np.testing.assert_array_equal(field.data, called[path].data, path)


def test_the_layout_tells_every_field(made):
    """What `Results.layout` says, and docs/results.md with it, is what there is."""
    layout = Results.layout()
    named = r"^/(labels|clusters|splits)/[^/]+|^/(strain/model/noise)/(?!kind)[^/]+"
    for path, field in made.items():
        general = re.sub(named, lambda found: f"/{found[1] or found[2]}/<name>", path)
        # The domain map lies among the labels of levels, by names of its own.
        about = layout.get(path.lstrip("/")) or layout[general.lstrip("/")]
        assert about.dims == field.dims, path
        if "{" not in about.units and about.units != "its own":
            assert about.units == field.units, path


def test_axes_of_a_plot_are_the_right_way_up(scan):
    survey = beam.survey_scan(scan)
    image = survey.to_xarray(scan.calibration)["images/dose"]
    assert image.dims == ("scan_y", "scan_x")
    step = scan.calibration.scan_units[0]
    np.testing.assert_allclose(image.scan_y, -step * np.arange(8))
    axes = image.plot().axes  # as xarray draws it: y grows upwards
    bottom, top = axes.get_ylim()
    assert bottom < top
    drawn = axes.collections[0].get_array().reshape(8, 8)
    np.testing.assert_array_equal(drawn, image.values)
    assert (
        axes.collections[0].get_coordinates()[0, 0, 1]
        > axes.collections[0].get_coordinates()[-1, 0, 1]
    )
