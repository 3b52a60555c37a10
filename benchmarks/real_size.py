"""Time and memory of the whole default `jax4dstem analyze` on a scan of real size.

    python benchmarks/real_size.py               # 256 x 256 patterns of 128 x 128 uint16 (2 GiB); writes real_size.json
    python benchmarks/real_size.py --size 64

The scan is a polycrystal, simulated band by band into a .npy file. `analyze` runs as a process of its own, as a
user runs it; its peak memory is what the system counted (`getrusage` of children; pages of the file that it mapped
are part of it). Times per stage are those it prints.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jax4dstem.simulate import polycrystal

DETECTOR = (128, 128)
BAND = 16  # scan rows that are simulated at once, with grains of their own
GRAINS_PER_BAND = 6
STAGE = re.compile(r"^\[\d+/\d+\] (\w+) +([\d.]+) s", re.MULTILINE)


def write_scan(path: Path, size: int) -> None:
    """Simulate the scan, a band of rows at a time, so that memory holds one band."""
    scan = np.lib.format.open_memmap(path, "w+", np.uint16, (size, size, *DETECTOR))
    for seed, row in enumerate(range(0, size, BAND)):
        rows = min(BAND, size - row)
        band, _ = polycrystal(
            (rows, size), DETECTOR, background=0.2, n_grains=GRAINS_PER_BAND, seed=seed
        )
        scan[row : row + rows] = band.source.read(slice(0, rows), slice(0, size))
    scan.flush()


def analyze(path: Path, out: Path) -> dict[str, Any]:
    """Run the default analysis; a failure is a result too."""
    begin = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "jax4dstem.cli", "analyze", str(path), "-o", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB on Linux
    if process.returncode:
        print(process.stderr[-2000:], file=sys.stderr)
    return {
        "status": process.returncode,
        "seconds": round(seconds, 1),
        "peak_memory_gib": round(peak / 2**20, 2),
        "seconds_per_stage": {name: float(took) for name, took in STAGE.findall(process.stdout)},
        "report": (out / "report.html").exists(),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="positions along a side of the scan")
    parser.add_argument("--folder", type=Path, help="where the scan is written; default: temporary")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "scan.npy"
        write_scan(path, options.size)
        found = analyze(path, Path(folder) / "out")
    result = {
        "scan_shape": [options.size, options.size],
        "detector_shape": list(DETECTOR),
        "dtype": "uint16",
        **found,
        "cores": len(os.sched_getaffinity(0)),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return found["status"]


if __name__ == "__main__":
    sys.exit(main())
