"""The benchmark scripts run, at a small size, and their tables are complete."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from jax4dstem import Dataset, map_patterns
from jax4dstem.patterns.friedel import friedel_center

PROJECT = Path(__file__).resolve().parents[1]


def script(name, folder="benchmarks"):
    path = PROJECT / folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_accelerator_benchmark_runs_on_a_cpu(tmp_path):
    gpu, out = script("gpu"), tmp_path / "gpu.json"
    assert gpu.main(["--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    lifts = {"virtual_image", "center_of_mass", "align_direct_beam", "ewpc", "moments"}
    table = result["patterns_per_second"]
    assert set(table) == lifts | {"measure_strain", "training epoch"}
    for name, row in table.items():
        assert set(row) == {"streamed", "resident", "compile_s", "share_of_peak"}
        assert row["streamed"] > 0
        assert (row["resident"] is not None) == (name in lifts)
        assert row["compile_s"] > 0
        assert set(row["share_of_peak"]) == {"bandwidth", "arithmetic"}
    compared = result["agreement_with_cpu"]
    assert {name.partition("[")[0].partition(".")[0] for name in compared} == set(table)
    assert all(row["agrees"] for row in compared.values())


def test_the_comparison_with_the_cpu_sees_differences():
    gpu = script("gpu")
    here = {"ewpc": np.array([1.0, 2.0, np.nan]), "strain['strain over its error']": np.ones(3)}
    assert all(row["agrees"] for row in gpu.compare(here, here).values())
    other = {
        "ewpc": np.array([1.0, 2.01, np.nan]),
        "strain['strain over its error']": 0.8 * np.ones(3),
    }
    assert not any(row["agrees"] for row in gpu.compare(here, other).values())
    lost = {**here, "ewpc": np.array([1.0, 2.0, 3.0])}
    assert not gpu.compare(lost, here)["ewpc"]["agrees"]


def test_shares_of_the_peak_are_by_device(monkeypatch):
    gpu = script("gpu")
    monkeypatch.setattr(gpu.jax, "clear_caches", lambda: None)  # other tests use them
    assert gpu.peak_of("NVIDIA H100 80GB HBM3") == gpu.PEAKS["H100"]
    assert gpu.peak_of("NVIDIA H100 PCIe") == gpu.PEAKS["H100 PCIe"]
    assert gpu.peak_of("cpu") is None
    job = gpu.Job(lambda: np.zeros(1), 10**6, megabytes=1.0, megaflop=1.0)
    row = gpu.measured(job, gpu.QUICK, (1000.0, 1.0))
    # 1 MB and 1 MFLOP per pattern at `streamed` patterns/s, on a device of 1 TB/s and 1 TFLOP/s.
    assert row["share_of_peak"]["bandwidth"] == pytest.approx(row["streamed"] / 1e6, rel=0.01)
    assert row["share_of_peak"]["arithmetic"] == pytest.approx(row["streamed"] / 1e6, rel=0.01)


def test_the_benchmark_of_real_size_reads_what_analyze_prints():
    real_size = script("real_size")
    lines = "[1/8] survey    1.2 s\n[2/8] align     reused\n[3/8] features  30.0 s\nreport    r.html (40 s in all)\n"
    assert dict(real_size.STAGE.findall(lines)) == {"survey": "1.2", "features": "30.0"}


def test_the_tuning_constants_that_are_varied_are_there_and_read():
    """The table of `experiments/sensitivity` is of the constants as they are."""
    told = json.loads((PROJECT / "experiments/sensitivity/result.json").read_text())["constants"]
    constants = script("constants", "experiments/sensitivity").CONSTANTS
    assert set(told) == {str(constant) for constant in constants}
    for constant in constants:
        assert np.isfinite(constant.value).all(), constant
        assert constant.readers, f"nothing reads {constant}"
        assert np.allclose(constant.value, told[str(constant)]["default"]), (
            f"{constant} has changed: run experiments/sensitivity/run.py for it again"
        )


def test_a_changed_constant_reaches_all_that_read_it():
    varied = script("constants", "experiments/sensitivity")
    cold_start = importlib.import_module("jax4dstem.lattice.cold_start")
    fit = importlib.import_module("jax4dstem.lattice.fit")
    convincing = varied.Constant("lattice.evidence", "CONVINCING")
    with convincing.set_to(7.5):
        assert cold_start.CONVINCING == 7.5  # imported by value
    assert cold_start.CONVINCING == convincing.value == 6.0
    coarse = varied.Constant("lattice.fit", "coarse", "FitLattice")
    with coarse.set_to(9):
        assert fit.FitLattice(11).coarse == 9
    assert fit.FitLattice(11).coarse == coarse.value == 4


@pytest.mark.slow  # other tests compile anew after it
def test_compiled_functions_look_again_at_a_changed_constant():
    varied = script("constants", "experiments/sensitivity")
    floor = varied.Constant("patterns.friedel", "FEWEST_PAIRS")
    image = np.random.default_rng(0).poisson(5.0, (1, 1, 24, 24)).astype(np.float32)
    scan = Dataset.from_array(image)
    center = np.full((1, 1, 2), 11.5, np.float32)
    usable = np.ones((24, 24), bool)

    def symmetry():
        found = map_patterns(friedel_center, scan, usable, 4.0, 1.0, per_position=(center,))
        return float(found.symmetry.item())

    before = symmetry()
    with floor.set_to(2.0):  # no center has twice as many pairs as pixels
        assert symmetry() == before
        varied.forget_compiled()
        assert symmetry() != before
    varied.forget_compiled()
    assert symmetry() == before
