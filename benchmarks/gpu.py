"""What the library does on an accelerator: speed, share of the device's peak, and agreement with the CPU.

    python benchmarks/gpu.py                 # <= 5 minutes on one GPU; writes benchmarks/gpu.json
    python benchmarks/gpu.py --quick         # a small size, also without a GPU

One process runs every job on the default device; a second one runs the same inputs on the CPU, and the answers are
compared. Rates are of the best of several rounds: `resident` calls the compiled kernel on patterns that lie on the
device, `streamed` is the public lift from host memory. `compile_s` is the first call less the best one.
Bytes and arithmetic per pattern are estimates by hand (`JOBS`), so the shares of the peak are too.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem import (
    Dataset,
    Moments,
    align_direct_beam,
    center_of_mass,
    ewpc,
    map_patterns,
    measure_strain,
    reduce_patterns,
    virtual_image,
)
from jax4dstem.models import AutoEncoderSpec, Dense, Reconstruction
from jax4dstem.patterns import annular_mask
from jax4dstem.simulate import polycrystal
from jax4dstem.train import ArrayFeed, Training, train

# Memory bandwidth in GB/s and float32 TFLOP/s without tensor cores, from NVIDIA's data sheets:
# A100 80GB (2021), H100 (2023), H200 (2024), L4 and L40S (2023), T4 (2018), V100 (2017), RTX 4090 (2022).
PEAKS = {
    "A100-SXM4-80GB": (2039, 19.5),
    "A100-SXM4-40GB": (1555, 19.5),
    "A100 80GB PCIe": (1935, 19.5),
    "H100 PCIe": (2000, 51),
    "H100 NVL": (3900, 60),
    "H100": (3350, 67),  # SXM, "H100 80GB HBM3"
    "H200": (4800, 67),
    "L4": (300, 30.3),
    "L40S": (864, 91.6),
    "T4": (320, 8.1),
    "V100": (900, 15.7),
    "RTX 4090": (1008, 82.6),
}
SIZE = 128
WINDOW, OFFSET = 25.0, 0.1
BEAM_RADIUS = 4.2  # px, a little more than the simulated disks'
BEAM_ITERATIONS = 8  # about: a pass over the pattern each
FEATURES, HIDDEN, LATENT, BATCH = 3000, 512, 8, 256
SHARED, KEYS = 1e-3, ("resident", "streamed")  # relative tolerance; reported rates


class Scale(NamedTuple):
    """How much of everything."""

    streamed: int  # patterns of the scan that is streamed
    resident: int
    crystal: int  # positions along a side of the crystal that is fitted
    samples: int
    rounds: int


FULL = Scale(65536, 8192, 48, 65536, 5)
QUICK = Scale(256, 64, 8, 512, 1)


class Job(NamedTuple):
    """A computation and what it costs per pattern."""

    run: Callable[[], Any]
    n_patterns: int
    megabytes: float
    megaflop: float
    kernel: Callable[[jax.Array], Any] | None = None  # on resident patterns


def counts_of(n_patterns: int) -> np.ndarray:
    """Poisson counts of a beam and a background, the same few patterns again and again."""
    y, x = np.indices((SIZE, SIZE))
    mean = 40 * np.exp(-((y - 64.3) ** 2 + (x - 63.6) ** 2) / 300) + 2
    some = np.random.default_rng(0).poisson(mean, (64, SIZE, SIZE)).astype(np.uint16)
    return np.resize(some, (n_patterns // 64, 64, SIZE, SIZE))


def pattern_jobs(scale: Scale) -> dict[str, Job]:
    """The lifts with the main pattern functions, and a reduction."""
    scan = Dataset.from_array(counts_of(scale.streamed))
    center = jnp.array([64.0, 64.0])
    mask = annular_mask((SIZE, SIZE), center, 20.0, 50.0)
    pixels = SIZE**2 / 1e6
    read = 2 * pixels  # MB of uint16
    transform = 5 * pixels * np.log2(SIZE**2) / 2  # a real FFT
    functions = {
        "virtual_image": (virtual_image, (mask,), read, 2 * pixels),
        "center_of_mass": (center_of_mass, (), read, 6 * pixels),
        "align_direct_beam": (
            align_direct_beam,
            (center, 12.0, 30.0),
            read * BEAM_ITERATIONS,
            10 * pixels * BEAM_ITERATIONS,
        ),
        # The answer is as large as the pattern, in float32.
        "ewpc": (ewpc, (center, WINDOW, OFFSET), read + 4 * pixels, 10 * pixels + transform),
    }
    jobs = {}
    for name, (fn, shared, megabytes, megaflop) in functions.items():
        lifted = jax.jit(jax.vmap(fn, (0, *(None for _ in shared))))
        jobs[name] = Job(
            lambda fn=fn, shared=shared: map_patterns(fn, scan, *shared),
            scan.n_patterns,
            megabytes,
            megaflop,
            lambda patterns, lifted=lifted, shared=shared: lifted(patterns, *shared),
        )
    reducer = Moments()

    @jax.jit
    def moments(patterns: jax.Array) -> Any:
        one = jnp.ones(len(patterns))
        return reducer.finalize(reducer.update(reducer.init(patterns[0], one[0]), patterns, one))

    jobs["moments"] = Job(
        lambda: reduce_patterns(reducer, scan), scan.n_patterns, read, 4 * pixels, moments
    )
    return jobs


def strain_job(scale: Scale) -> Job:
    """From raw counts to strain by the public path; most of its arithmetic is small windows, not estimated."""
    side = scale.crystal
    scan, truth = polycrystal((side, side), (SIZE, SIZE), background=0.2, n_grains=1, seed=5)

    def run() -> dict[str, np.ndarray]:
        strain = measure_strain(scan, truth.parameters.center, BEAM_RADIUS).strain
        # In units of their error: a fit that ends elsewhere by a hundredth of it is the same fit.
        errors = np.stack([strain.std(name) for name in ("e_xx", "e_yy", "e_xy", "theta")], -1)
        return {"strain over its error": strain.values / errors, "ok": strain.ok}

    return Job(run, scan.n_patterns, 2 * SIZE**2 / 1e6, float("nan"))


def training_job(scale: Scale) -> Job:
    """Epochs of an autoencoder of feature vectors."""
    x = np.random.default_rng(0).standard_normal((scale.samples, FEATURES)).astype(np.float32)
    feed, spec = ArrayFeed(x), AutoEncoderSpec((FEATURES,), LATENT, Dense((HIDDEN,)))
    weights = 2 * HIDDEN * (FEATURES + LATENT)

    def run() -> np.ndarray:
        return train(spec, Reconstruction(), feed, Training(epochs=1, batch_size=BATCH)).history[
            "loss"
        ]

    # Forward, and two products backward; Adam reads and writes the weights and two moments per step.
    return Job(run, scale.samples, (4 * FEATURES + 28 * weights / BATCH) / 1e6, 6 * weights / 1e6)


def jobs_of(scale: Scale) -> dict[str, Job]:
    """All of them."""
    return {
        **pattern_jobs(scale),
        "measure_strain": strain_job(scale),
        "training epoch": training_job(scale),
    }


def time_of(run: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Best time of some calls, and how much longer the first took, in s."""
    seconds = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begin)
    best = min(seconds[1:])
    return best, max(seconds[0] - best, 0.0)


def peak_of(device: str) -> tuple[float, float] | None:
    """Bandwidth in GB/s and TFLOP/s of a device by its name; the longest name that is part of it counts."""
    names = [name for name in PEAKS if name in device]
    return PEAKS[max(names, key=len)] if names else None


def measured(job: Job, scale: Scale, peak: tuple[float, float] | None) -> dict[str, Any]:
    """Rates of one job."""
    jax.clear_caches()  # of what the comparison has compiled
    best, compile_s = time_of(job.run, scale.rounds)
    row: dict[str, Any] = {"streamed": job.n_patterns / best, "compile_s": round(compile_s, 2)}
    row["resident"] = None
    if job.kernel is not None:
        patterns = counts_of(scale.resident).reshape(-1, SIZE, SIZE)
        patterns = jax.device_put(patterns)
        row["resident"] = len(patterns) / time_of(lambda: job.kernel(patterns), scale.rounds)[0]
    fastest = row["resident"] or row["streamed"]
    shares = {"bandwidth": None, "arithmetic": None}
    if peak is not None:
        shares["bandwidth"] = round(fastest * job.megabytes / 1e3 / peak[0], 4)
        if np.isfinite(job.megaflop):
            shares["arithmetic"] = round(fastest * job.megaflop / 1e6 / peak[1], 4)
    for key in KEYS:
        row[key] = None if row[key] is None else round(row[key])
    return {**row, "share_of_peak": shares}


def answers(scale: Scale) -> dict[str, np.ndarray]:
    """What every job gives, as flat arrays by name, on few patterns: the CPU has to compute it too."""
    found = {}
    for name, job in jobs_of(scale).items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(job.run()):
            found[f"{name}{jax.tree_util.keystr(path)}"] = np.asarray(leaf, np.float64)
    return found


def answers_on_cpu() -> dict[str, np.ndarray]:
    """The same, of the small size, from a process that sees the CPU only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.npz"
        command = [sys.executable, __file__, "--quick", "--answers", str(path)]
        subprocess.run(command, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
        with np.load(path) as file:
            return {name: file[name] for name in file.files}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, over the root mean square; NaN must be NaN in both."""
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    scale = np.sqrt(np.nanmean(b**2)) or 1.0
    return float(np.nanmax(np.abs(a - b)) / scale)


def compare(here: dict[str, np.ndarray], cpu: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Difference of every answer; strain (in error bars) may differ by a tenth of one, other answers by 1e-3."""
    rows = {}
    for name, values in here.items():
        if "over its error" in name:
            gap, limit = float(np.nanmax(np.abs(values - cpu[name]))), 0.1
        else:
            gap, limit = difference(values, cpu[name]), SHARED
        rows[name] = {"difference": float(f"{gap:.2g}"), "agrees": gap <= limit}
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--answers", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.answers:
        np.savez(options.answers, **answers(QUICK))
        return 0
    scale, begin = (QUICK if options.quick else FULL), time.perf_counter()
    device = jax.devices()[0]
    peak = peak_of(device.device_kind)
    agreement = compare(answers(QUICK), answers_on_cpu())
    table = {name: measured(job, scale, peak) for name, job in jobs_of(scale).items()}
    result = {
        "device": device.device_kind,
        "platform": device.platform,
        "peak_gb_per_s_and_tflop_per_s": peak,
        "scale": scale._asdict(),
        "shape": [SIZE, SIZE],
        "dtype": "uint16",
        "patterns_per_second": table,
        "agreement_with_cpu": agreement,
        "seconds": round(time.perf_counter() - begin, 1),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, row in table.items():
        print(f"{name:<18} {row}")
    wrong = [name for name, row in agreement.items() if not row["agrees"]]
    print("differs from the CPU: " + ", ".join(wrong) if wrong else "agrees with the CPU")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
