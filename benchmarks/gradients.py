"""Peak memory and time of value and gradient over a scan, beside a reduction that only reads it.

    python benchmarks/gradients.py                      # 65,536 patterns, writes benchmarks/gradients.json

The loss is the Poisson deviance of the detector's pixels from a radial profile with a shared center, 24 parameters; the
reduction is the mean pattern. Each runs in a process of its own, on one uint16 file in the page cache, and reports the largest resident
memory of the whole process, as the system counts it. Then the temporary memory that XLA plans for a batch of lattice fits, forward and
with the gradient by the model: implicit, and unrolled.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem import Mean, grad_patterns, open_dataset, reduce_patterns, use_all_cores
from jax4dstem.coordinates import radius_from
from jax4dstem.lattice import FitLattice, Implicit, LatticeModel, Unrolled, starting_model
from jax4dstem.simulate import hexagonal_indices

SIZE, RINGS = 32, 22
HERE = Path(__file__).parent


def deviance(pattern: jax.Array, shared: dict) -> jax.Array:
    distance = radius_from(shared["center"], pattern.shape)
    expected = jnp.exp(jnp.interp(distance, jnp.arange(float(RINGS)), shared["logarithm"]))
    return 2 * jnp.sum(expected - pattern * jnp.log(expected))


def write_scan(path: Path, n_patterns: int) -> None:
    y, x = np.indices((SIZE, SIZE)) - 15.5
    mean = 30 * np.exp(-np.hypot(y, x) / 5) + 0.5
    some = np.random.default_rng(0).poisson(mean, (256, SIZE, SIZE)).astype(np.uint16)
    np.save(path, np.broadcast_to(some, (n_patterns // 256, 256, SIZE, SIZE)))


def run(what: str, path: Path) -> None:
    """One lift, twice: the first compiles."""
    use_all_cores()
    scan = open_dataset(path)
    shared = {"center": jnp.array([15.0, 16.0]), "logarithm": jnp.linspace(3.0, -1.0, RINGS)}
    lifts = {
        "reduction": lambda: reduce_patterns(Mean(), scan),
        "gradient": lambda: grad_patterns(deviance, scan, shared),
    }
    lifts[what]()
    begin = time.perf_counter()
    lifts[what]()
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    rate = round(scan.n_patterns / seconds)
    print(json.dumps({"peak_MiB": round(peak), "patterns_per_s": rate}))


def fit_memory() -> dict:
    """Memory of the way back over that of the fit."""
    lattice = 15 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])
    model, counts = starting_model(lattice, hexagonal_indices(1), 2.6), jnp.ones((32, 56, 56))

    def total(adjoint: Implicit | Unrolled) -> Callable:
        fit = FitLattice(9, adjoint=adjoint)

        def distortion(counts: jax.Array, model: LatticeModel) -> jax.Array:
            return jnp.sum(fit(counts, jnp.array([27.3, 28.2]), jnp.eye(2), model).distortion)

        return lambda model: jnp.sum(jax.vmap(distortion, (0, None))(counts, model))

    def memory(fn: Callable) -> int:
        return jax.jit(fn).lower(model).compile().memory_analysis().temp_size_in_bytes

    forward = memory(total(Implicit()))
    ratios = {
        type(adjoint).__name__: memory(jax.grad(total(adjoint), allow_int=True)) / forward
        for adjoint in (Implicit(), Unrolled())
    }
    return {name: round(ratio, 2) for name, ratio in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patterns", type=int, default=65536)
    parser.add_argument("--run", choices=("reduction", "gradient"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run, options.file)
        return
    result: dict = {"patterns": options.patterns, "detector": [SIZE, SIZE]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.npy"
        write_scan(path, options.patterns)
        for what in ("reduction", "gradient"):
            command = [sys.executable, __file__, "--run", what, "--file", str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            result[what] = json.loads(done.stdout.splitlines()[-1])
    ratio = result["gradient"]["peak_MiB"] / result["reduction"]["peak_MiB"]
    result["memory_ratio"] = round(ratio, 2)
    result["fit_memory_ratio"] = fit_memory()
    text = json.dumps(result, indent=1)
    print(text)
    (HERE / "gradients.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
