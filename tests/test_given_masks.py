"""Masks of pixels and of positions: from the data's own file, from others, by shape or condition."""

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
from test_beam import made_scan
from typer.testing import CliRunner

from jax4dstem import (
    Dataset,
    InputError,
    align_scan,
    measure_images,
    open_dataset,
    plots,
    survey_scan,
)
from jax4dstem.beam import DetectorOptions
from jax4dstem.cli import app
from jax4dstem.explore import Subject
from jax4dstem.io.arrays import read_array
from jax4dstem.io.glance import glance
from jax4dstem.pipeline import DOMAIN_STAGES, analyze_in_memory, load_recipe
from jax4dstem.pipeline import strain as stage
from jax4dstem.pipeline.given import scan_condition
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.report.tables import division_table
from jax4dstem.strain import NoStrain

SHAPE = (88, 92)
MASK = np.zeros(SHAPE, bool)
MASK[:, 20:22] = True
MASK[60:63, 40:43] = True
QUICK = {"embed.umap": False, "cluster.methods": ["kmeans"], "cluster.restarts": 2}


@pytest.fixture(scope="module")
def made():
    return made_scan()


@pytest.fixture
def dectris(made, tmp_path):
    """As an Eiger writes it: masked pixels hold the largest number."""
    counts = np.where(MASK, 2**32 - 1, made.counts).astype(np.uint32)
    with h5py.File(tmp_path / "scan_master.h5", "w") as file:
        file["entry/data/data_000001"] = counts.reshape(-1, *SHAPE)
        file["entry/instrument/detector/detectorSpecific/pixel_mask"] = MASK.astype("u4")
    return tmp_path / "scan_master.h5"


def test_the_mask_in_the_file_is_read_and_cropped_and_binned_with_the_patterns(dectris):
    scan = open_dataset(dectris, scan_shape=(4, 5))
    np.testing.assert_array_equal(scan.mask, MASK)
    assert any("masked pixels" in note for note in scan.notes)
    part = open_dataset(dectris, scan_shape=(4, 5), crop_detector=(8, 88, 10, 90), bin_detector=2)
    expected = MASK[8:88, 10:90].reshape(40, 2, 40, 2).any(axis=(1, 3))
    np.testing.assert_array_equal(part.mask, expected)


def test_what_masked_pixels_hold_is_no_doubt(dectris, made):
    """The largest number of the type stands in pixels that the file masks, and nowhere else."""
    seen = glance(open_dataset(dectris, scan_shape=(4, 5)))
    assert seen.largest == made.counts[..., ~MASK].max()
    assert seen.doubts == ()


def test_masked_pixels_of_the_file_count_nowhere(dectris, made):
    found = survey_scan(open_dataset(dectris, scan_shape=(4, 5)))
    clean = survey_scan(Dataset.from_array(made.counts), detector=DetectorOptions(mask=MASK))
    assert found.detector.bad_pixels[MASK].all()
    np.testing.assert_allclose(found.dose, clean.dose, rtol=1e-3)
    np.testing.assert_allclose(found.center, clean.center, atol=0.05)


def test_a_mask_of_another_shape_in_the_file_is_a_doubt(dectris):
    with h5py.File(dectris, "a") as file:
        group = file["entry/instrument/detector/detectorSpecific"]
        del group["pixel_mask"]
        group["pixel_mask"] = np.zeros((3, 4), "u4")
    scan = open_dataset(dectris, scan_shape=(4, 5))
    assert scan.mask is None
    assert any("does not fit" in doubt for doubt in scan.doubts)


@pytest.mark.parametrize("kind", ["npy", "tif", "h5", "h5:key"])
def test_arrays_are_read_from_files_of_any_kind(kind, tmp_path):
    path = tmp_path / f"mask.{kind.partition(':')[0]}"
    if kind == "npy":
        np.save(path, MASK)
    elif kind == "tif":
        pytest.importorskip("tifffile").imwrite(path, MASK.astype(np.uint8))
    else:
        with h5py.File(path, "w") as file:
            file["a/mask"] = MASK
            if kind == "h5:key":
                file["other"] = 1
    found = read_array(f"{path}:a/mask" if kind == "h5:key" else str(path))
    np.testing.assert_array_equal(found != 0, MASK)
    if kind == "h5:key":
        with pytest.raises(InputError, match="name one as"):
            read_array(str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mask", "none.npy"], "no file none.npy"),
        (["--mask", "small.npy"], "detector.mask has (3, 4) pixels, the detector (88, 92)"),
        (["--scan-mask", "small.npy"], "prepare.scan_mask has the shape (3, 4)"),
        (["--scan-mask", "0,9,0,2"], "rows 0:9, columns 0:2 is empty or outside of 4 x 5"),
        (["--set", "detector.mask_rectangles=[[0,1,0,999]]"], "outside of 88 x 92"),
    ],
)
def test_masks_that_do_not_fit_are_told_before_any_compute(
    options, message, made, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    np.save("scan.npy", made.counts)
    np.save("small.npy", np.zeros((3, 4), bool))
    result = CliRunner().invoke(app, ["strain", "scan.npy", "-o", "out", *options])
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "limit"),
    [("dose < 1e4", 1e4), ("bright_field>-.5", -0.5), ("dose < 1e", None), ("dose < --3", None)],
)
def test_conditions_have_a_number(text, limit):
    found = scan_condition(Recipe(prepare=replace(Recipe().prepare, scan_mask=text)))
    assert (found is None) == (limit is None)
    assert found is None or found.limit == limit


@pytest.mark.parametrize("text", ["0,4,0,2", "file", "dose < 10000"])
def test_masked_positions_are_in_no_domain_and_said(text, made, tmp_path):
    """The first two columns: as a rectangle, as a file, and by their few electrons."""
    left_out = np.zeros((4, 5), bool)
    left_out[:, :2] = True
    counts = np.where(left_out[..., None, None], made.counts // 4, made.counts)
    if text == "file":
        text = str(tmp_path / "scan_mask.npy")
        np.save(text, left_out)
    recipe = load_recipe(None, {**QUICK, "prepare.scan_mask": text})
    found = analyze_in_memory(Dataset.from_array(counts), recipe, DOMAIN_STAGES)
    np.testing.assert_array_equal(~found.survey.valid, left_out)
    labels = found.domains.labels["level_1"]
    np.testing.assert_array_equal(labels == -1, left_out)
    assert np.isnan(found.images.bright_field[left_out]).all()
    electrons = found.survey.electrons(Dataset.from_array(counts))
    assert electrons.pattern_shape == SHAPE
    _is_seen_as_left_out(found, left_out)


def _is_seen_as_left_out(found, left_out):
    """White in maps of labels and in none of the legend's shares, without a value elsewhere, in no share of the table."""
    axes = plots.level_maps(found).axes[0]
    image = axes.images[0].get_array()
    np.testing.assert_array_equal((image == 1).all(axis=-1), left_out)
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    shares = [float(word.split(": ")[1].removesuffix(" %")) for word in words[:-1]]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))
    assert words[-1] == f"left out: {left_out.sum()}"
    table = division_table(found, "level_1")
    of_table = next(column.cells for column in table.columns if column.title == "share")
    assert [f"{each:.1f} %" for each in shares] == of_table
    maps = Subject.of(found, Dataset.from_array(np.ones((4, 5, 8, 8)))).maps
    assert np.isnan(maps["labels/level_1"].data[left_out]).all()
    assert (maps["masked"].data == left_out).all()


def test_what_masked_positions_hold_changes_nothing(made):
    left_out = np.zeros((4, 5), bool)
    left_out[1:3, 2:4] = left_out[0, 0] = True
    wild = np.where(left_out[..., None, None], 7 * made.counts[..., ::-1] + 900, made.counts)
    wild[1, 2] = 0
    of_both = []
    for counts in (made.counts, wild):
        scan = Dataset.from_array(counts)
        survey = survey_scan(scan, scan_mask=left_out)
        state = {"survey": survey, "beam": align_scan(scan, survey)}
        of_both.append({**state, "images": measure_images(scan, survey, state["beam"])})
    for name, found in of_both[0].items():
        same = of_both[1][name]
        for field in fields(found):
            values, others = getattr(found, field.name), getattr(same, field.name)
            if field.name == "detector":
                values, others = (np.array(list(vars(v).values())[:4]) for v in (values, others))
            if np.shape(values)[:2] == (4, 5):
                values, others = values[~left_out], others[~left_out]
            np.testing.assert_array_equal(values, others, err_msg=f"{name}.{field.name}")


def test_what_is_masked_is_no_pattern_for_fits(made):
    scan = Dataset.from_array(made.counts)
    left_out = np.zeros((4, 5), bool)
    left_out[1, 2] = True
    survey = survey_scan(scan, scan_mask=left_out)
    seen = survey.electrons(scan).sample_scan([1, 3], [0, 2])
    np.testing.assert_array_equal(seen.missing, [[False, True], [False, False]])
    patterns = seen.source.read(slice(0, 2), slice(0, 2))
    np.testing.assert_array_equal(np.isnan(patterns).all(axis=(2, 3)), seen.missing)
    np.testing.assert_array_equal(patterns[1, 0], made.counts[3, 0])
    assert survey.valid.sum() == 19


@pytest.mark.parametrize(("doubt", "refused"), [(0.7, True), (0.1, False)])
def test_a_hidden_beam_of_unknown_center_gives_no_strain(doubt, refused, made, monkeypatch):
    scan = Dataset.from_array(made.counts)
    survey = survey_scan(scan)
    beam = replace(align_scan(scan, survey), hidden=True, doubt=np.full((4, 5), doubt))
    monkeypatch.setattr(stage, "strain_in_blocks", lambda *_, **__: NoStrain("the fits were asked"))
    found = stage.strain(scan, {"survey": survey, "beam": beam}, load_recipe(None))
    assert ("--center Y,X" in found.reason) == refused
    assert ("the fits were asked" in found.reason) != refused
