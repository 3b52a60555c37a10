"""Maps of results as files that other programs read."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from jax4dstem import Calibration, InputError, OutputError
from jax4dstem.cli import app
from jax4dstem.fields import Field
from jax4dstem.io.results import write_group
from jax4dstem.neighbors import export_maps, find_maps, list_maps
from jax4dstem.pipeline import Results

SCAN = ("scan_y", "scan_x")
SHAPE = (3, 5)
CALIBRATION = Calibration(scan_step_nm=2.0, scan_step_y_nm=2.5)


@pytest.fixture
def tree(rng):
    def map_of(*, units="1", extra=(), dims=()):
        return Field(
            rng.normal(size=(*SHAPE, *extra)).astype(np.float32), units, "a map", (*SCAN, *dims)
        )

    labels = rng.integers(-1, 3, SHAPE).astype(np.int32)
    pooled, lattice = {"e_xx": map_of(), "theta": map_of(units="rad")}, {"e_xx": map_of()}
    return {
        "labels": {"domains": Field(labels, "", "domain", SCAN)},
        "center": map_of(units="px", extra=(2,), dims=("yx",)),
        "strain": {
            "lattice": lattice,
            "pooled": pooled,
            "bases": {"share": map_of()},
            "second": {"share": map_of()},
            "model": {"lattice": Field(np.eye(2), "px", "no map", ("vector", "yx"))},
        },
    }  # fmt: skip


@pytest.fixture
def results(tree):
    about = {"scan_step_nm": 2.0, "scan_step_y_nm": 2.5}
    return Results(about=about, stored=tree)


def test_a_tif_has_values_and_the_size_of_its_pixels(results, tree, tmp_path):
    paths = export_maps(results, ["e_xx", "labels/domains", "center"], tmp_path)
    assert [path.name for path in paths] == ["e_xx.tif", "labels_domains.tif", "center_y.tif", "center_x.tif"]  # fmt: skip
    with tifffile.TiffFile(paths[0]) as file:
        np.testing.assert_array_equal(file.asarray(), tree["strain"]["pooled"]["e_xx"].data)
        per_unit = [np.divide(*file.pages[0].tags[f"{axis}Resolution"].value) for axis in "XY"]
        np.testing.assert_allclose(per_unit, [1 / 2e-3, 1 / 2.5e-3])
        assert file.imagej_metadata["unit"] == "micron"
        assert file.imagej_metadata["Info"] == "strain/pooled/e_xx: a map (1)"
    np.testing.assert_array_equal(tifffile.imread(paths[1]), tree["labels"]["domains"].data)
    np.testing.assert_array_equal(tifffile.imread(paths[3]), tree["center"].data[..., 1])


def test_rosettasciio_reads_the_size_of_the_pixels(results, tmp_path):
    tiff = pytest.importorskip("rsciio.tiff")
    [path] = export_maps(results, ["theta"], tmp_path)
    [signal] = tiff.file_reader(str(path))
    scales = {axis["name"]: (axis["scale"], axis["units"]) for axis in signal["axes"]}
    assert scales == {
        "height": (pytest.approx(2.5e-3), "µm"),
        "width": (pytest.approx(2e-3), "µm"),
    }


def test_labels_without_a_negative_one_stay_integers(results, tree, tmp_path):
    above = replace(tree["labels"]["domains"], data=np.full(SHAPE, 300))
    results = Results(stored={"labels": {"domains": above}})
    [path] = export_maps(results, ["domains"], tmp_path)
    assert tifffile.imread(path).dtype == np.uint16


def test_a_table_has_a_row_per_position_and_gives_the_numbers_back(results, tree, tmp_path):
    [path] = export_maps(results, ["e_xx", "theta", "domains"], tmp_path, to="csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["scan_y", "scan_x", "y (nm)", "x (nm)", "e_xx", "theta (rad)", "domains"]  # fmt: skip
    assert len(rows) == 15
    last = rows[-1]
    assert [last[key] for key in ("scan_y", "scan_x", "y (nm)", "x (nm)")] == [
        "2",
        "4",
        "5.0",
        "8.0",
    ]
    pooled = tree["strain"]["pooled"]
    theta = np.array([row["theta (rad)"] for row in rows], np.float32).reshape(SHAPE)
    np.testing.assert_array_equal(theta, pooled["theta"].data)
    domains = np.array([row["domains"] for row in rows], int).reshape(SHAPE)
    np.testing.assert_array_equal(domains, tree["labels"]["domains"].data)


def test_arrays_are_as_they_were(results, tree, tmp_path):
    [one] = export_maps(results, ["strain/lattice/e_xx"], tmp_path, to="npy")
    np.testing.assert_array_equal(np.load(one), tree["strain"]["lattice"]["e_xx"].data)
    [all_of_them] = export_maps(results, ["domains", "center[x]"], tmp_path, to="npz")
    with np.load(all_of_them) as archive:
        assert archive["domains"].dtype == np.int32
        np.testing.assert_array_equal(archive["center_x"], tree["center"].data[..., 1])


@pytest.mark.parametrize(
    ("names", "options", "told"),
    [
        (["domain"], {}, r"no map 'domain'; did you mean labels/domains\? there are labels/domains, center"),
        (["share"], {}, "may be any of strain/bases/share, strain/second/share: give the whole path"),
        (["center[z]"], {}, r"center has no component 'center\[z\]': \['center\[y\]', 'center\[x\]'\]"),
        (["lattice"], {}, "no map 'lattice'"),
        ([], {}, "no map is named"),
        (["e_xx", "e_xx"], {}, "several maps would be called e_xx"),
        (["e_xx"], {"to": "bmp"}, "cannot be written as 'bmp'; expected tif, csv, npy, npz"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_said(results, tmp_path, names, options, told):
    with pytest.raises(InputError, match=told):
        export_maps(results, names, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_stay(results, tmp_path):
    (tmp_path / "theta.npy").write_text("mine")
    with pytest.raises(InputError, match="is already there"):
        export_maps(results, ["e_xx", "theta"], tmp_path, to="npy")
    assert [path.name for path in tmp_path.iterdir()] == ["theta.npy"]  # none of them is written
    export_maps(results, ["theta"], tmp_path, to="npy", overwrite=True)
    assert np.load(tmp_path / "theta.npy").shape == SHAPE
    with pytest.raises(OutputError, match="cannot write"):
        export_maps(results, ["theta"], tmp_path / "theta.npy" / "below")


def test_a_list_of_what_there_is(tree):
    assert [item.path for item in list_maps(tree)][:3] == ["labels/domains", "center[y]", "center[x]"]  # fmt: skip
    assert [item.name for item in find_maps(tree, ["center"])] == ["center_y", "center_x"]


def test_without_calibration_a_pixel_is_a_pixel(tree, tmp_path):
    results = Results(stored=tree)
    [table] = export_maps(results, ["e_xx"], tmp_path, to="csv")
    assert table.read_text().startswith("scan_y,scan_x,e_xx\n0,0,")
    [path] = export_maps(results, ["e_xx"], tmp_path)
    with tifffile.TiffFile(path) as file:
        assert file.imagej_metadata["unit"] == "pixel"


def test_the_command_exports(tree, tmp_path):
    write_group(tmp_path / "results.h5", tree, {"schema": 2, "stages": "{}", "scan_step_nm": 2.0})
    listed = CliRunner().invoke(app, ["export", str(tmp_path)])
    assert "strain/pooled/theta  (rad) a map\n" in listed.output
    arguments = ["export", str(tmp_path), "--maps", "domains,center[x]", "--to", "csv"]
    done = CliRunner().invoke(app, arguments)
    assert done.output == f"written   {tmp_path}/maps/maps.csv\n"
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0
    wrong = CliRunner().invoke(app, ["export", str(tmp_path), "--maps", "e_xxx"])
    assert wrong.output.startswith("error: there is no map 'e_xxx'; did you mean")
