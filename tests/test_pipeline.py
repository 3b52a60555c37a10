"""The main job from end to end, on small simulated scans and, where they are, on real files."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from jax4dstem import (
    InputError,
    align_scan,
    measure_strain,
    open_dataset,
    open_results,
    prepare_patterns,
    survey_scan,
)
from jax4dstem.cli import app
from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.domains import domain_agreement, map_domains, merge_by_majority
from jax4dstem.fields import Field
from jax4dstem.io.results import read_group
from jax4dstem.pipeline import (
    DOMAIN_STAGES,
    STAGES,
    STRAIN_STAGES,
    Results,
    analyze,
    analyze_dataset,
    analyze_in_memory,
    load_recipe,
)
from jax4dstem.plots import direct_beam
from jax4dstem.report import write_report
from jax4dstem.simulate import polycrystal
from jax4dstem.strain import StrainReference
from jax4dstem.train import load_model

# What the first labels need.
LABEL_STAGES = tuple(
    stage for stage in DOMAIN_STAGES if stage.name not in ("images", "domain_map", "clusters")
)
QUICK = {"embed.umap": False, "cluster.restarts": 2, "strain.enabled": False}


def two_domains(shape=(12, 14), size=40, seed=0, dose=3000.0):
    """Left and right domain with different Bragg disks, a drifting beam and shot noise; and labels."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size))
    labels = (np.indices(shape)[1] >= shape[1] // 2).astype(int)
    scan = np.zeros((*shape, size, size), np.uint16)
    spots = {0: [(0, 11), (0, -11), (11, 0), (-11, 0)], 1: [(8, 8), (-8, -8), (8, -8), (-8, 8)]}
    for i, j in np.ndindex(shape):
        cy, cx = size / 2 + 0.1 * i, size / 2 - 0.1 * j
        pattern = 0.02 + 5.0 * (np.hypot(y - cy, x - cx) < 2.5)
        for dy, dx in spots[labels[i, j]]:
            pattern = pattern + 1.0 * (np.hypot(y - cy - dy, x - cx - dx) < 2.5)
        scan[i, j] = rng.poisson(pattern / pattern.sum() * dose)
    return scan, labels


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory):
    scan, labels = two_domains()
    path = tmp_path_factory.mktemp("data") / "scan.h5"
    with h5py.File(path, "w") as file:
        file["data"] = scan
        file["data"].attrs.update(q_pixel_invA=0.03, scan_step_nm=2.0)
    return path, labels


@pytest.fixture(scope="module")
def finished(scan_file, tmp_path_factory):
    """A finished run of the command line, UMAP left out."""
    out = tmp_path_factory.mktemp("run") / "deep" / "out"
    arguments = ["analyze", str(scan_file[0]), "-o", str(out)]
    for key, value in QUICK.items():
        arguments += ["--set", f"{key}={json.dumps(value)}"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return out, scan_file[1], result.output


def test_domains_are_found(finished):
    out, labels, output = finished
    assert "[8/14] domains" in output
    tree, _ = read_group(out / "results.h5")
    agreement = domain_agreement(tree["labels"]["level_1"].data, labels)
    assert agreement == (1.0, 1.0)
    center = tree["center"].data
    drift = center[..., 0] - center[:1, :, 0]
    np.testing.assert_allclose(drift, np.arange(12)[:, None] * np.full(14, 0.1), atol=0.35)


def test_the_results_file_keeps_the_contract(finished):
    out, _, _ = finished
    results = open_results(out)
    assert results.about["scan_shape"].tolist() == [12, 14]
    assert results.about["seed"] == 0
    assert len(results.about["input_hash"]) == 64
    assert "k_max = 6" in results.about["recipe"]
    tree = results.to_xarray()
    for name in ("/images/bright_field", "/images/annular_dark_field", "/labels/level_1"):
        assert tree[name].dims == ("scan_y", "scan_x")
    assert tree["/features/std_map"].dims == ("det_y", "det_x")
    assert tree["/clusters/level_1/mean_pattern"].dims == ("domain", "det_y", "det_x")
    assert tree["/labels/level_1"].dtype == np.int32
    assert tree["/embedding/pca"].shape[:2] == (12, 14)
    # In nm; the first row is at the top of a plot, where y is largest.
    assert tree["/labels/level_1"].coords["scan_x"].values[:2].tolist() == [0.0, 2.0]
    assert tree["/labels/level_1"].coords["scan_y"].values[:2].tolist() == [0.0, -2.0]

    def check(name, item):
        if isinstance(item, h5py.Dataset):
            assert {"units", "description", "dims"} <= set(item.attrs), name
            assert item.attrs["description"], name
            assert len(item.attrs["dims"]) == item.ndim, name

    with h5py.File(out / "results.h5") as file:
        file.visititems(check)


def test_the_report_is_complete_and_self_contained(finished):
    out, _, _ = finished
    page = (out / "report.html").read_text()
    for title in ("Images", "Domains", "Mean patterns", "Details"):
        assert f">{title}</h2>" in page
    for title in ("Finer clusters", "Features and embedding", "Direct beam", "Times"):
        assert f"<summary>{title}" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("data:image/png;base64") >= 8
    assert (out / "figures" / "overview.png").stat().st_size > 10_000
    assert "scan.h5" in page
    assert "1/Å" in page


def labels_of(out):
    return open_results(out).domains.levels[0]


def test_a_second_run_reuses_the_stages(finished, scan_file):
    out, _, _ = finished
    before, written = labels_of(out), (out / "results.h5").stat().st_mtime_ns
    lines = []
    analyze(scan_file[0], out, load_recipe(None, QUICK), lines.append)
    assert all("reused" in line for line in lines)
    assert (out / "results.h5").stat().st_mtime_ns == written  # nor is it written again
    np.testing.assert_array_equal(labels_of(out), before)
    lines.clear()
    # Another k changes what the clusters are, and nothing else: not the strain, for one.
    analyze(scan_file[0], out, load_recipe(None, {**QUICK, "cluster.k": 3}), lines.append)
    again = [line.split()[1] for line in lines if "reused" not in line]
    assert again == ["domains", "clusters", "latent"]
    assert len(np.unique(labels_of(out))) == 3
    assert not (out / "stages").exists()
    analyze(scan_file[0], out, load_recipe(None, QUICK), lines.append)


@pytest.mark.whole
def test_other_results_in_a_directory_stay_while_they_fit(tmp_path):
    scan, _ = polycrystal((8, 8), (64, 64), background=0.1, n_grains=2, seed=4)
    quick = {**QUICK, "strain.bases": 0, "strain.further": [], "cluster.methods": ["kmeans"]}
    lines = []
    analyze_dataset(scan, tmp_path, load_recipe(None, quick), lines.append, DOMAIN_STAGES)
    labels = labels_of(tmp_path)
    recipe = load_recipe(None, {**quick, "strain.enabled": True})
    analyze_dataset(scan, tmp_path, recipe, lines.append, STRAIN_STAGES)
    np.testing.assert_array_equal(labels_of(tmp_path), labels)
    assert open_results(tmp_path).strain.lattice is not None
    lines.clear()
    analyze_dataset(scan, tmp_path, recipe, lines.append)
    again = [line.split()[1] for line in lines if "reused" not in line]
    assert again == ["crystals", "examples", "latent", "health"]
    # Other centers: what the domains were made of fits no more, and that is said.
    lines.clear()
    other = load_recipe(None, {**quick, "strain.enabled": True, "prepare.descan_order": 1})
    analyze_dataset(scan, tmp_path, other, lines.append, STRAIN_STAGES)
    assert open_results(tmp_path).domains is None
    assert "removed results of other settings: domain_map, features, scores" in lines[-1]


def test_another_input_is_refused_unless_told(finished, tmp_path):
    out, _, _ = finished
    other = Dataset.from_array(two_domains(shape=(4, 5), seed=9)[0])
    with pytest.raises(InputError, match=r"results of another input .*--overwrite"):
        analyze_dataset(other, out, load_recipe(None, QUICK), lambda _: None)
    assert labels_of(out).shape == (12, 14)
    analyze_dataset(other, tmp_path, load_recipe(None, QUICK), lambda _: None, STAGES[:2])
    (tmp_path / "report.html").write_text("old")
    third = Dataset.from_array(two_domains(shape=(4, 5), seed=10)[0])
    recipe = load_recipe(None, QUICK)
    analyze_dataset(third, tmp_path, recipe, lambda _: None, STAGES[:2], overwrite=True)
    assert not (tmp_path / "report.html").exists()


def test_answers_in_memory_and_from_the_file_are_the_same(finished, scan_file):
    recipe = load_recipe(None, QUICK)
    made = analyze_in_memory(open_dataset(scan_file[0]), recipe)
    read = open_results(finished[0])
    a, b = made.fields(), read.fields()
    paths = []

    def compare(x, y, path=""):
        assert set(x) == set(y), path
        for name in x:
            if isinstance(x[name], dict):
                compare(x[name], y[name], f"{path}/{name}")
                continue
            paths.append(name)
            assert (x[name].units, x[name].dims) == (y[name].units, y[name].dims)
            np.testing.assert_array_equal(x[name].data, y[name].data, f"{path}/{name}")

    compare(a, b)
    assert len(paths) > 40
    np.testing.assert_array_equal(read.domains.levels[0], made.domains.levels[0])
    assert (
        read.clusters.levels["level_1"].state.tolist()
        == made.clusters.levels["level_1"].state.tolist()
    )


@pytest.mark.parametrize("kind", ["sqrt", "angular", "angular_cepstrum"])
def test_one_recipe_line_swaps_the_features(kind, tmp_path):
    scan, labels = two_domains()
    recipe = load_recipe(
        None, {**QUICK, "features.kind": kind, "cluster.methods": ["kmeans"], "cluster.k": 2}
    )
    path = analyze_dataset(Dataset.from_array(scan), tmp_path, recipe, lambda _: None, LABEL_STAGES)
    found = read_group(path)[0]
    if not kind.startswith("angular"):  # they do not see that one domain is the other, turned
        assert domain_agreement(found["labels"]["level_1"].data, labels)[0] == 1.0
    assert found["features"]["mask"].data.any()


@pytest.mark.whole
def test_clusters_are_told_what_they_are(tmp_path):
    scan, _ = two_domains(size=64)
    scan[:4, :3] = np.random.default_rng(1).poisson(3.0, scan[:4, :3].shape)  # no crystal there
    overrides = {**QUICK, "cluster.methods": ["kmeans"], "cluster.k": 3, "cluster.compare": "gmm"}
    dataset = Dataset.from_array(scan, Calibration(0.03))
    path = analyze_dataset(
        dataset, tmp_path, load_recipe(None, overrides), lambda _: None, DOMAIN_STAGES
    )
    found = read_group(path)[0]
    group = found["clusters"]["level_1"]
    states, names = group["state"].data.tolist(), group["relation"].data.tolist()
    assert sorted(states) == ["amorphous", "crystalline", "crystalline"]
    assert sorted(name.split()[0] for name in names) == ["amorphous", "reference", "rotated"]
    turned = np.abs(np.degrees(group["strain"].data[:, 3]))
    assert np.nanmax(turned) == pytest.approx(45, abs=2)
    crystal = [state == "crystalline" for state in states]
    lengths = np.linalg.norm(group["basis"].data[crystal], axis=-1)
    np.testing.assert_allclose(lengths, 1 / (11.15 * 0.03), rtol=0.08)  # few fringes
    assert (
        group["crystallinity"].data[crystal].min()
        > 2 * group["crystallinity"].data[np.logical_not(crystal)].max()
    )
    assert found["comparison"]["index"].data > 0.9
    assert found["comparison"]["disagreement"].data.mean() < 0.05


@pytest.mark.whole
def test_learned_representations_of_every_region(scan_file, tmp_path):
    overrides = {
        **QUICK,
        "latent.enabled": True,
        "latent.hidden": [16],
        "latent.latent": 2,
        "latent.epochs": 5,
        "latent.k": 2,
        "latent.min_size": 20,
    }
    out = tmp_path / "out"
    found = analyze(scan_file[0], out, load_recipe(None, overrides), lambda _: None)
    tree, results = found.fields(), out / "results.h5"
    regions = tree["labels"]["level_1"].data
    for model in ("ae", "vae"):
        group = tree["latent"][model]
        assert group["codes"].data.shape == (*regions.shape, 2)
        assert np.isfinite(group["codes"].data).all()
        assert (group["anomaly_p_value"].data <= 1).all()
        # A cluster of codes lies in one region.
        pairs = set(zip(group["labels"].data.ravel(), regions.ravel(), strict=True))
        assert len(pairs) == 2 * len(np.unique(regions))
        history = group["regions"][f"region_{regions[0, 0]}"]["trained"]["history"]
        assert history["loss"].data[-1] < history["loss"].data[0]
    assert "Learned representations" in write_report(out).read_text()
    assert (out / "figures" / "learned_vae.png").exists()
    model = load_model(results, f"latent/ae/regions/region_{regions[0, 0]}/trained")
    assert model.about["data"]["recipe"] == read_group(results)[1]["recipe"]
    assert model.spec.latent == 2
    with pytest.raises(InputError, match="no model"):
        load_model(results, "latent/ae/regions/region_99/trained")
    with pytest.raises(InputError, match="no clusters of level 9"):
        analyze(scan_file[0], out, load_recipe(None, {**overrides, "latent.level": 9}), print)


@pytest.mark.slow
def test_a_killed_run_resumes(scan_file, tmp_path):
    """Kill the process as soon as the first stages are on disk; the next run reads them."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "jax4dstem.cli", "analyze", str(scan_file[0]), "-o", str(out)]
    process = subprocess.Popen(
        [*command, "--set", "embed.umap=false", "--set", "strain.enabled=false"],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (out / "stages" / "beam.h5").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "results.h5").exists()
    lines = []
    analyze(
        scan_file[0],
        out,
        load_recipe(None, {"embed.umap": False, "strain.enabled": False}),
        lines.append,
    )
    assert "reused" in lines[0]
    assert "reused" in lines[1]
    assert (out / "results.h5").exists()


def invalid_scan(kind):
    scan = two_domains(shape=(5, 6))[0].astype(np.float32)
    if kind == "nan":
        scan[2, 3, 4, 5] = np.nan
    elif kind == "inf":
        scan[2, 3, 4, 5] = np.inf
    else:
        scan[2, 3] = 0
    return scan


@pytest.mark.parametrize("kind", ["nan", "inf", "blank"])
def test_invalid_patterns_stop_the_run(tmp_path, kind):
    dataset = Dataset.from_array(invalid_scan(kind))
    recipe = load_recipe(None, QUICK)
    with pytest.raises(InputError, match=r"1 of 30 patterns are invalid.*\(2, 3\).*exclude"):
        analyze_dataset(dataset, tmp_path / "out", recipe)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out" / "stages").iterdir())


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["nan", "blank"])  # what is not finite is excluded alike
def test_invalid_patterns_are_excluded(tmp_path, kind):
    dataset = Dataset.from_array(invalid_scan(kind))
    exclude = load_recipe(None, {**QUICK, "input.invalid_patterns": "exclude"})
    results = analyze_dataset(dataset, tmp_path / "out", exclude, lambda _: None)
    tree, _ = read_group(results)
    labels = tree["labels"]["level_1"].data
    assert labels[2, 3] == -1
    assert (labels >= 0).sum() == 29
    assert np.isfinite(tree["features"]["std_map"].data).all()
    assert np.isfinite(tree["clusters"]["level_1"]["mean_pattern"].data).all()
    write_report(tmp_path / "out")


@pytest.mark.whole
@pytest.mark.parametrize("shape", [(1, 1), (1, 5)])
def test_tiny_scans_do_not_crash(tmp_path, shape):
    scan, _ = two_domains(shape=shape)
    # Every shape is compiled anew, and strain would be most of that; UMAP is left out of so few by itself.
    recipe = load_recipe(None, {"strain.enabled": False})
    analyze_dataset(Dataset.from_array(scan), tmp_path, recipe, lambda _: None)
    write_report(tmp_path)


@pytest.mark.parametrize(
    "overrides",
    [
        {"features.kind": "cepstrum"},
        {"prepare.normalize": "peak", "features.scale": "none", "cluster.drop_outliers": 0.05},
        {"prepare.normalize": "none", "prepare.bin": 2},
        {"cluster.methods": ["gmm", "hdbscan"]},
        {"cluster.methods": ["hdbscan"], "cluster.min_cluster_size": 20},
        {"cluster.methods": ["kmeans"], "cluster.k": 2},
    ],
    ids=lambda overrides: ",".join(map(str, overrides.values())),
)
def test_the_ways_of_the_field_are_options(tmp_path, overrides):
    scan, labels = two_domains()
    recipe = load_recipe(None, {**QUICK, **overrides})
    results = analyze_dataset(
        Dataset.from_array(scan, Calibration(0.03)), tmp_path, recipe, lambda _: None, LABEL_STAGES
    )
    tree, _ = read_group(results)
    found = tree["labels"]["level_1"].data
    inside = found >= 0
    assert inside.mean() > 0.8
    assert domain_agreement(found[inside], labels[inside])[1] > 0.95


@pytest.mark.whole
@pytest.mark.parametrize(
    "overrides",
    [{"prepare.normalize": "none", "prepare.bin": 2}, {"cluster.methods": ["gmm", "hdbscan"]}],
    ids=["binned", "methods"],
)
def test_the_ways_of_the_field_reach_the_report(tmp_path, overrides):
    scan, labels = two_domains()
    analyze(Dataset.from_array(scan), tmp_path, load_recipe(None, {**QUICK, **overrides}), print)
    write_report(tmp_path)
    assert labels_of(tmp_path).shape == labels.shape


@pytest.mark.whole
def test_the_same_seed_gives_the_same_file(tmp_path):
    scan, _ = two_domains()
    trees = []
    for name in ("a", "b"):
        recipe = load_recipe(None, {**QUICK, "seed": 4})
        results = analyze_dataset(Dataset.from_array(scan), tmp_path / name, recipe, lambda _: None)
        trees.append(read_group(results)[0])
    np.testing.assert_array_equal(
        trees[0]["embedding"]["pca"].data, trees[1]["embedding"]["pca"].data
    )


@pytest.mark.slow  # numba compiles UMAP anew in every process
def test_umap_is_part_of_the_default_run(tmp_path):
    scan, labels = two_domains(shape=(10, 10))
    recipe = load_recipe(
        None,
        {"cluster.space": "umap", "cluster.methods": ["kmeans"], "strain.enabled": False},
    )
    results = analyze_dataset(Dataset.from_array(scan), tmp_path, recipe, lambda _: None)
    tree, _ = read_group(results)
    assert tree["embedding"]["umap"].data.shape == (10, 10, 3)
    assert domain_agreement(tree["labels"]["level_1"].data, labels)[1] > 0.95


def run_cli(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_errors_are_one_line_with_a_status(tmp_path, scan_file):
    out = tmp_path / "out"
    cases = [
        (["info", tmp_path / "none.h5"], "there is no file"),
        (["analyze", scan_file[0], "-o", out, "--set", "cluster.kk=3"], "unknown recipe key"),
        (
            ["analyze", scan_file[0], "-o", out, "--set", "features.outer=900"],
            "outside the 40 x 40",
        ),
        (["report", tmp_path], "no results.h5"),
    ]
    for arguments, message in cases:
        process = run_cli(*arguments)
        assert process.exit_code == 1
        assert message in process.stderr
        assert len(process.stderr.strip().splitlines()) == 1
        assert not out.exists()


def test_a_directory_that_cannot_be_written(tmp_path, scan_file):
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    process = run_cli("analyze", scan_file[0], "-o", blocked / "out")
    assert process.exit_code == 1
    assert process.stderr.startswith("error: cannot write to")
    assert blocked.read_text() == "not a directory"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs file size limits")
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, scan_file):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        "from jax4dstem.cli import main; main()"
    )
    out = tmp_path / "out"
    process = subprocess.run(
        [sys.executable, "-c", code, "analyze", str(scan_file[0]), "-o", str(out)],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 1
    assert "error: cannot write" in process.stderr
    assert not list(tmp_path.rglob("*.part"))
    assert not out.exists()


def test_info_tells_why(scan_file):
    result = CliRunner().invoke(app, ["info", str(scan_file[0])])
    assert "scan      12 x 14" in result.output
    assert "attributes in the file" in result.output
    assert "0.03 1/Å" in result.output


def test_a_printed_recipe_can_be_read_again(tmp_path):
    text = CliRunner().invoke(app, ["recipe", "--set", "cluster.k=3"]).output
    (tmp_path / "r.toml").write_text(text)
    assert load_recipe(tmp_path / "r.toml") == load_recipe(None, {"cluster.k": 3})


def test_strain_of_an_analysis_is_that_of_the_specimen(analyzed):
    _, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
    measured = open_results(analyzed / "out").strain
    found = measured.relative_to(StrainReference.vectors(*truth.vectors)).strain
    assert found.ok[truth.interior].all()
    z = [
        (getattr(found, name) - getattr(truth, name))[truth.interior]
        / found.std(name)[truth.interior]
        for name in ("e_xx", "e_yy", "e_xy")
    ]
    assert 0.75 < np.sqrt(np.mean(np.square(z))) < 1.3


def test_majority_merging():
    labels, truth = np.array([4, 4, 4, 9, -1]), np.array([1, 1, 0, 0, 2])
    assert merge_by_majority(labels, truth).tolist() == [1, 1, 1, 0, 2]


@pytest.mark.whole
def test_multislice_heterojunction(shared_data, tmp_path):
    """Descan and domains of a part of the scan (every fifth row and column)."""
    with h5py.File(shared_data / "cbed_wide2_like.mat") as file:
        scan = file["cbed"][:, :].transpose(1, 0, 3, 2)[::5, ::5]
    with h5py.File(shared_data / "cbed_wide2_like_truth.h5") as file:
        labels = file["label"][::5, ::5]
        center = np.stack([file["center_y"][::5, ::5], file["center_x"][::5, ::5]], -1)
    results = analyze_dataset(
        Dataset.from_array(np.ascontiguousarray(scan)),
        tmp_path,
        load_recipe(None, QUICK),
        lambda _: None,
    )
    tree, _ = read_group(results)
    error = tree["center"].data - center
    error = np.linalg.norm(error - error.mean((0, 1)), axis=-1)
    assert np.median(error) < 0.05
    assert domain_agreement(tree["labels"]["level_1"].data, labels)[1] > 0.97


@pytest.mark.whole
def test_measured_mgo_cubes(shared_data, tmp_path):
    """Vacuum, film and cube are different clusters; the cube's cepstrum has its lattice spacings."""
    from jax4dstem.patterns.cepstrum import find_cepstrum_peaks

    whole = open_dataset(shared_data / "mgo_sped_crop_y62-104_x0-50_u16.h5")
    scan = Dataset.from_array(whole.source.read(slice(0, 43), slice(0, 50))[1::2, ::2])
    recipe = load_recipe(None, QUICK)
    tree, _ = read_group(analyze_dataset(scan, tmp_path, recipe, lambda _: None))
    labels = tree["labels"]["level_2"].data
    vacuum, film, cube = labels[12, 1], labels[15, 22], labels[15, 10]
    assert len({vacuum, film, cube}) == 3
    group = tree["clusters"]["level_2"]
    half = group["mean_cepstrum"].data[list(group["ids"].data).index(cube)]
    peaks = find_cepstrum_peaks(half, (144, 144), Calibration(0.03246), inner=4)
    lengths = np.array([peak.length for peak in peaks[:8]])
    for expected in (2.0, 2.1, 2.95):
        assert np.abs(lengths - expected).min() < 0.08


@pytest.mark.whole
def test_strain_of_a_measured_cube(shared_data):
    """Disks that are clipped, thresholded and like no simulated ones are one lattice of one cube, not two that overlap."""
    path = shared_data / "mgo_sped_crop_y62-104_x0-50_u16.h5"
    scan = open_dataset(path).crop_scan(18, 40, 4, 30)
    survey = survey_scan(scan)
    beam = align_scan(scan, survey)
    electrons, detector = survey.electrons(scan), survey.detector.of_electrons
    found = measure_strain(electrons, beam.center, beam.radius, detector=detector)
    assert found.strain.ok.mean() > 0.8
    assert np.median(found.strain.std("e_xx")[found.strain.ok]) < 4e-3
    assert found.second is None or found.second.there.mean() < 0.02


@pytest.mark.whole
def test_domains_of_a_measured_scan(shared_data):
    """A cube, thin crystal beside it, and vacuum, with borders that are inclined facets, and a beam with long tails."""
    scan = open_dataset(shared_data / "mgo_sped_crop_y62-104_x0-50_u16.h5")
    survey = survey_scan(scan)
    found = map_domains(prepare_patterns(scan, survey, align_scan(scan, survey)))
    vacuum, crystal, cube = (found.labels[at] for at in ((24, 2), (30, 44), (30, 20)))
    assert len({vacuum, crystal, cube}) == 3
    assert (found.labels[24:43, 12:30] == cube).all()
    assert len(found.size) <= 6


@pytest.mark.whole
def test_strain_from_file_to_report(tmp_path):
    scan, truth = polycrystal((12, 12), (128, 128), background=0.2, n_grains=1, seed=2)
    np.save(tmp_path / "scan.npy", scan.source.read(slice(0, 12), slice(0, 12)))
    g1, g2 = (",".join(map(str, vector.round(4))) for vector in truth.vectors)
    out = tmp_path / "out"
    arguments = ["strain", str(tmp_path / "scan.npy"), "-o", str(out), "--g1", g1, f"--g2={g2}"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    strain = read_group(out / "results.h5")[0]["strain"]
    for method in ("lattice", "pooled", "bases", "cepstrum"):
        assert strain[method]["e_xx"].data.shape == (12, 12)
    assert (strain["lattice"]["status"].data == 0).all()
    assert np.abs(strain["pooled"]["e_xx"].data - truth.e_xx).mean() < 2e-3
    assert "Strain" in (out / "report.html").read_text()
    bases = strain["bases"]
    assert np.abs(bases["e_xx"].data - truth.e_xx).mean() < 2e-3
    assert (bases["base"].data == 0).mean() > 0.8  # one crystal, one base
    # The same stages serve `train bases`, and the trained bases can be loaded.
    again = CliRunner().invoke(app, ["train", "bases", *arguments[1:]])
    assert again.output.count("reused") == 6
    assert load_model(out / "results.h5", "strain/bases/trained").spec.period > 0
    none = CliRunner().invoke(app, ["train", "bases", *arguments[1:], "--set", "strain.bases=0"])
    assert "nothing to train" in none.output


@pytest.mark.whole
def test_the_published_network_is_a_command(scan_file, tmp_path):
    out = tmp_path / "out"
    arguments = ["train", "ccstae", str(scan_file[0]), "-o", str(out), "--set", "ccstae.epochs=1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = open_results(out)
    assert found.ccstae.e_xx.shape == (12, 14)
    assert found.strain is None
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--g1", "0,28"], "given together"),
        (["--g1", "0,28", "--g2", "0,14"], "span no lattice"),
        (["--g1", "a,b", "--g2", "0,14"], "expects 2 numbers"),
        (["--cif", "x.cif", "--zone", "1,1"], "expects 3 numbers"),
        (["--cif", "x.cif", "--pixel", "0.02"], "no file"),
        (["--cif", "x.cif", "--region", "0,4,0,4"], "exclude each other"),
        (["--region", "0,99,0,4"], "outside the"),
        (["--g1", "0,28", "--g2", "28,0", "--region", "0,4,0,4"], "exclude each other"),
        (["--set", "strain.cluster=1"], "no cluster of level 1"),
    ],
)
def test_strain_options_that_do_not_fit(options, message, scan_file, tmp_path):
    result = CliRunner().invoke(
        app, ["strain", str(scan_file[0]), "-o", str(tmp_path / "o"), *options]
    )
    assert result.exit_code == 1
    assert message in result.output


@pytest.mark.whole
def test_codes_and_features_are_spaces_to_cluster_in(tmp_path):
    scan, labels = two_domains()
    for space, needs in {
        "codes": {"embed.codes": "ae"},
        "features": {"embed.keep_features": True},
    }.items():
        overrides = {**QUICK, **needs, "cluster.space": space, "cluster.k": 2}
        path = analyze_dataset(
            Dataset.from_array(scan),
            tmp_path / space,
            load_recipe(None, overrides),
            lambda _: None,
            DOMAIN_STAGES,
        )
        found = read_group(path)[0]
        assert domain_agreement(found["labels"]["level_1"].data, labels)[0] > 0.95
        assert found["embedding"][space].data.shape[:2] == labels.shape
    with pytest.raises(InputError, match=r"needs embed\.codes"):
        load_recipe(None, {"cluster.space": "codes"})


def test_radii_may_be_in_inverse_angstrom(tmp_path):
    scan, _ = two_domains()
    given = {**QUICK, "features.inner": 0.2, "features.outer": 0.45, "features.units": "calibrated"}
    recipe = load_recipe(None, given)
    stages = tuple(s for s in STAGES if s.name in ("survey", "beam", "features"))
    with pytest.raises(InputError, match="needs a detector calibration"):
        analyze_dataset(Dataset.from_array(scan), tmp_path / "a", recipe, lambda _: None, stages)
    calibrated = Dataset.from_array(scan, Calibration(0.03))
    path = analyze_dataset(calibrated, tmp_path / "b", recipe, lambda _: None, stages)
    np.testing.assert_allclose(
        read_group(path)[0]["features"]["ring"].data, [0.2 / 0.03, 0.45 / 0.03]
    )


def test_lost_direct_beams_are_found_again(tmp_path):
    """In many patterns a reflection outshines the direct beam, now on one side, now on the other."""
    rng = np.random.default_rng(0)
    scan, _ = two_domains(dose=20000.0)
    y, x = np.indices(scan.shape[2:])
    for i, j in np.argwhere(rng.random(scan.shape[:2]) < 0.3):
        side = rng.choice([-1, 1])
        center = np.array([20 + 0.1 * i, 20 - 0.1 * j + 9.0 * side])
        bright = np.hypot(y - center[0], x - center[1]) < 2.5
        scan[i, j] += (3 * scan[i, j].max() * bright).astype(np.uint16)
    done = read_group(
        analyze_dataset(
            Dataset.from_array(scan), tmp_path, load_recipe(None, QUICK), lambda _: None, STAGES[:2]
        )
    )[0]
    true = np.stack(
        np.broadcast_arrays(20 + 0.1 * np.arange(12)[:, None], 20 - 0.1 * np.arange(14)), axis=-1
    )
    assert np.linalg.norm(done["center"].data - true, axis=-1).max() < 1.0


def test_centers_that_are_given_are_drawn_without_measured_ones():
    given, none = (Field(np.full((3, 4, 2), n), dims=("y", "x", "yx")) for n in (8.0, np.nan))
    stored = {"center": given, "descan": {"measured": none, "surface": given}}
    assert len(direct_beam(Results(stored=stored)).axes) == 6  # a warning is an error
