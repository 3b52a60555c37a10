"""Patterns per second of four analyses: jax4dstem, NumPy/SciPy and LiberTEM on one file, in one run.

    python benchmarks/throughput.py                      # writes benchmarks/throughput.json
    python benchmarks/throughput.py --patterns 65536

The file (uint16 Poisson counts, .npy) is written to a temporary directory and is in the page cache when
the timing starts, so what is measured is memory and arithmetic, not the disk. Every figure is the best
of several alternating rounds after a warm-up; compilation and LiberTEM's start-up are not counted. The
floor is the time to read the file once into fresh memory.
"""

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from jax4dstem import (
    Moments,
    center_of_mass,
    ewpc,
    map_patterns,
    open_dataset,
    reduce_patterns,
    use_all_cores,
    virtual_image,
)
from jax4dstem.patterns import annular_mask, cepstral_ring, gather_features

SIZE = 128
CENTER = (64.0, 64.0)
INNER, OUTER = 20.0, 50.0
WINDOW, OFFSET = 25.0, 0.1
RING = cepstral_ring((SIZE, SIZE), 4, 32)  # quefrencies that are kept: 1,600 per pattern
BLOCK = 64  # patterns a NumPy baseline works on at once; larger blocks leave the cache


def write_scan(path: Path, n_patterns: int) -> None:
    rows = n_patterns // 256
    scan = np.lib.format.open_memmap(path, "w+", np.uint16, (rows, 256, SIZE, SIZE))
    y, x = np.indices((SIZE, SIZE))
    mean = 40 * np.exp(-((y - 64) ** 2 + (x - 64) ** 2) / 300) + 2
    some = np.random.default_rng(0).poisson(mean, (256, SIZE, SIZE)).astype(np.uint16)
    for row in range(rows):
        scan[row] = np.roll(some, row, axis=0)
    scan.flush()


def numpy_analyses(path: Path) -> dict[str, Callable]:
    """Blocked NumPy/SciPy, as a careful user would write it; SciPy's FFT with one worker per core."""
    y, x = np.indices((SIZE, SIZE))
    mask = np.asarray(annular_mask((SIZE, SIZE), jnp.array(CENTER), INNER, OUTER)).ravel()
    moments = np.stack([np.ones(SIZE * SIZE), y.ravel(), x.ravel()], 1).astype(np.float32)
    window = np.exp(-0.5 * ((y - 64) ** 2 + (x - 64) ** 2) / WINDOW**2).astype(np.float32)
    workers = os.cpu_count()

    def blocks():
        flat = np.load(path, mmap_mode="r").reshape(-1, SIZE * SIZE)
        for start in range(0, len(flat), BLOCK):
            yield flat[start : start + BLOCK].astype(np.float32)

    def annular():
        return np.concatenate([block @ mask for block in blocks()])

    def com():
        parts = np.concatenate([block @ moments for block in blocks()])
        return parts[:, 1:] / parts[:, :1]

    def std():
        total, squares, n = np.zeros(SIZE * SIZE), np.zeros(SIZE * SIZE), 0
        for block in blocks():
            total += block.sum(0)
            squares += np.einsum("ij,ij->j", block, block)
            n += len(block)
        return np.sqrt(squares / n - (total / n) ** 2)

    def cepstrum():
        kept = []
        for block in blocks():
            block = block.reshape(-1, SIZE, SIZE)
            logarithm = np.log(block / block.mean((1, 2), keepdims=True) + np.float32(OFFSET))
            mean = (logarithm * window).sum((1, 2), keepdims=True) / window.sum()
            spectrum = scipy.fft.rfft2((logarithm - mean) * window, workers=workers)
            # The transform's rows are not shifted here; the same quefrencies are kept.
            kept.append(np.abs(spectrum.reshape(len(block), -1)[:, ring]))
        return np.concatenate(kept)

    ring = np.flatnonzero(np.fft.ifftshift(RING, axes=0))
    return {
        "annular detector": annular,
        "center of mass": com,
        "STD map": std,
        "EWPC + mask": cepstrum,
    }


def jax4dstem_analyses(path: Path) -> dict[str, Callable]:
    dataset = open_dataset(path)
    mask = annular_mask((SIZE, SIZE), jnp.array(CENTER), INNER, OUTER)

    ring = np.flatnonzero(RING).astype(np.int32)
    masked = dataset.map(ewpc, jnp.array(CENTER), WINDOW, OFFSET)

    return {
        "annular detector": lambda: map_patterns(virtual_image, dataset, mask),
        "center of mass": lambda: map_patterns(center_of_mass, dataset),
        "STD map": lambda: reduce_patterns(Moments(), dataset).std,
        "EWPC + mask": lambda: map_patterns(
            gather_features, masked, ring, np.ones(len(ring), np.float32)
        ),
    }


def libertem_analyses(path: Path) -> dict[str, Callable]:
    """LiberTEM with its own ready-made analyses, on its default executor (one process per core)."""
    import libertem.api as lt
    from libertem.udf.com import CoMUDF
    from libertem.udf.masks import ApplyMasksUDF
    from libertem.udf.stddev import StdDevUDF

    context = lt.Context()
    dataset = context.load("npy", path=str(path))
    mask = np.asarray(annular_mask((SIZE, SIZE), jnp.array(CENTER), INNER, OUTER))
    annular, com, std = ApplyMasksUDF([lambda: mask]), CoMUDF.with_params(), StdDevUDF()
    return {
        "annular detector": lambda: context.run_udf(dataset, annular),
        "center of mass": lambda: context.run_udf(dataset, com),
        "STD map": lambda: context.run_udf(dataset, std),
    }


def read_floor(path: Path) -> Callable:
    """Copy the file's patterns to memory, once, in tiles."""

    def read():
        buffer = np.empty(2**24, np.uint8)
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    return read


def best_times(analyses: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Shortest time of each, all run in turn, so that a slow moment of the machine hits all alike."""
    best = dict.fromkeys(analyses, np.inf)
    for run in analyses.values():
        run()  # compile, start workers, fill caches
    for _ in range(rounds):
        for name, run in analyses.items():
            begin = time.perf_counter()
            jax.block_until_ready(run())
            best[name] = min(best[name], time.perf_counter() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patterns", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    use_all_cores()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.npy"
        write_scan(path, options.patterns)
        packages = {"jax4dstem": jax4dstem_analyses(path), "numpy": numpy_analyses(path)}
        try:
            packages["libertem"] = libertem_analyses(path)
        except ImportError:
            print("LiberTEM is not installed (pip install 'jax4dstem[bench]'); left out")
        jobs = {
            f"{analysis}|{package}": run
            for package, runs in packages.items()
            for analysis, run in runs.items()
        }
        jobs["read|floor"] = read_floor(path)
        seconds = best_times(dict(sorted(jobs.items())), options.rounds)
    rates = {name: options.patterns / time for name, time in seconds.items()}
    table = {analysis: {} for analysis in packages["numpy"]}
    for name, rate in rates.items():
        analysis, package = name.split("|")
        table.setdefault(analysis, {})[package] = round(rate)
    result = {
        "patterns": options.patterns,
        "shape": [SIZE, SIZE],
        "dtype": "uint16",
        "patterns_per_second": table,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for analysis, row in table.items():
        cells = "  ".join(f"{package} {rate:>9,}" for package, rate in row.items())
        print(f"{analysis:<18}{cells}")


if __name__ == "__main__":
    main()
