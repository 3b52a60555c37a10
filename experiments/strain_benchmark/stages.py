"""Where the time of the strain measurement goes: milliseconds of one core per pattern, stage by stage.

    python experiments/strain_benchmark/stages.py           # about a minute; writes stages.json

Every stage is mapped over the same scan in memory, compiled; the fastest of several passes counts. A search contains
the contrast it looks at, and all of them the reading.
"""

import argparse
import json
import os
import timeit
from pathlib import Path

import jax.numpy as jnp
from run import as_detectors_write, beam_centers

from jax4dstem import Dataset, map_patterns
from jax4dstem.lattice import (
    LatticeSetup,
    bin_counts,
    bin_point,
    disk_contrast,
    learn_lattice,
    sample_scan,
    search_lattice,
)
from jax4dstem.patterns import total_counts
from jax4dstem.simulate import polycrystal
from jax4dstem.typing import Array, Pattern, Point

HERE = Path(__file__).parent
PASSES = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--level", type=float, default=0.25)
    parser.add_argument("--out", type=Path, default=HERE / "stages.json")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX makes its threads
    made, truth = polycrystal((options.size,) * 2, (200, 200), background=options.level, seed=101)
    dataset = Dataset.from_array(as_detectors_write(made))
    center, radius = beam_centers(dataset)
    sample = sample_scan(dataset)
    learned = learn_lattice(sample, sample.of(center), radius, truth.vectors)
    setup, factor = learned.setup, learned.measure.fit.binning

    def contrast(pattern: Pattern, setup: LatticeSetup) -> Array:
        counts = bin_counts(pattern, setup.model.detector, factor)
        return disk_contrast(counts, setup.kernels)

    def brightest(pattern: Pattern, setup: LatticeSetup) -> Array:
        return jnp.max(contrast(pattern, setup))

    def search(pattern: Pattern, center: Point, setup: LatticeSetup) -> Array:
        found = search_lattice(
            contrast(pattern, setup), bin_point(center, factor), setup.hypotheses
        )
        return found.vectors

    found = map_patterns(learned.measure, dataset, setup, per_position=(center,))
    start = (found.center, found.distortion)
    stages = {
        "read": lambda: map_patterns(total_counts, dataset),
        "contrast": lambda: map_patterns(brightest, dataset, setup),
        "search": lambda: map_patterns(search, dataset, setup, per_position=(center,)),
        "fit": lambda: map_patterns(learned.measure.fit, dataset, setup.model, per_position=start),
        "all": lambda: map_patterns(learned.measure, dataset, setup, per_position=(center,)),
    }
    result = {}
    for name, stage in stages.items():
        stage()
        seconds = min(timeit.repeat(stage, number=1, repeat=PASSES))
        result[name] = round(1e3 * seconds / dataset.n_patterns, 3)
        print(f"{name:10s} {result[name]:.3f} ms", flush=True)
    about = {"scan": [options.size] * 2, "hypotheses": len(setup.hypotheses.vectors)}
    options.out.write_text(json.dumps(about | {"ms_per_pattern": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
