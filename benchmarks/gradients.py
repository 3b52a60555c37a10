"""Peak memory and time of value and gradient over a scan, beside a reduction that only reads it.

    python benchmarks/gradients.py                      # 65,536 patterns, writes benchmarks/gradients.json

The loss is the Poisson deviance of the detector's pixels from a radial profile with a shared center, 24 parameters; the
reduction is the mean pattern. Each runs in a process of its own, on one uint16 file in the page cache, and reports the largest resident
memory of the whole process, as the system counts it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem import Mean, grad_patterns, open_dataset, reduce_patterns, use_all_cores
from jax4dstem.coordinates import radius_from

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
    text = json.dumps(result, indent=1)
    print(text)
    (HERE / "gradients.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
