"""The benchmark scripts run, at a small size, and their tables are complete."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
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
