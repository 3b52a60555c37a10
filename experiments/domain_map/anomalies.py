"""Planted anomalies: which share of them the domain map finds, beside what a likelihood ratio with known patterns finds.

python experiments/domain_map/anomalies.py --seeds 11 12 13 14 15

In a polycrystal with a field of strain 1, 4 or 20 adjacent positions are of another structure, contaminated or damaged. The oracle ranks positions by the
likelihood of what was planted over that of the host, both as they were simulated, and takes as many as leave at most one in twenty false.
"""

import argparse
import functools
import json
from pathlib import Path

import jax
import numpy as np
from prepared import prepared_of

from jax4dstem import Dataset, map_domains, use_all_cores
from jax4dstem.simulate import patch_side, polycrystal, simulate_pattern, simulate_scan

HERE = Path(__file__).parent
SCAN, DETECTOR = (40, 40), (64, 64)
GRAINS, BACKGROUND, GRADIENT = 3, 0.25, 5e-4
BLOCKS = {1: (1, 1), 4: (2, 2), 20: (4, 5)}
FALSE = 0.05


def another_structure(parameters):
    """A square lattice with a first ring 7 % farther out, one grain alone."""
    whole = parameters.intensities.sum(axis=-2, keepdims=True)
    own = np.zeros_like(parameters.intensities)
    own[..., :1, :] = whole
    length = 1.07 * np.linalg.norm(parameters.vectors[0, 0, 0, 0])
    lattice = length * np.array([[0.0, 1.0], [-1.0, 0.0]])
    return parameters._replace(
        vectors=np.broadcast_to(lattice, parameters.vectors.shape), intensities=own
    )


def contaminated(parameters):
    """Half as much background again."""
    return parameters._replace(background_fraction=1.5 * parameters.background_fraction)


def damaged(parameters):
    """Disks of half the intensity; what they lose stays in the direct beam."""
    kept = 0.5 * parameters.intensities
    kept[..., 0] += kept.sum(axis=-1)
    return parameters._replace(intensities=kept)


KINDS = {"structure": another_structure, "contaminated": contaminated, "damaged": damaged}


def planted(kind, number, dose, seed):
    """Scan, where the anomalies are, and the logarithm of the likelihood ratio."""
    _, truth = polycrystal(SCAN, DETECTOR, n_grains=GRAINS, background=BACKGROUND, dose=dose, gradient=GRADIENT, seed=seed)  # fmt: skip
    host = jax.tree.map(lambda leaf: np.array(leaf), truth.parameters)
    other = KINDS[kind](host)
    rng = np.random.default_rng(1000 * seed + number)
    size = np.array(BLOCKS[number])
    corner = rng.integers(0, np.array(SCAN) - size + 1)
    where = np.zeros(SCAN, bool)
    where[tuple(slice(start, start + side) for start, side in zip(corner, size, strict=True))] = True  # fmt: skip
    mixed = jax.tree.map(
        lambda a, b: np.where(where.reshape(*SCAN, *(1,) * (a.ndim - 2)), b, a), host, other
    )
    counts = simulate_scan(mixed, truth.optics, DETECTOR, seed=seed)
    expected = [means(each, truth.optics) for each in (host, other)]
    ratio = np.sum(counts * np.log(expected[1] / expected[0]) - expected[1] + expected[0], axis=(-1, -2))  # fmt: skip
    return counts, where, ratio


@functools.partial(jax.jit, static_argnums=2)
def expected_patterns(parameters, optics, patch):
    """Of every row of the parameters."""
    one = functools.partial(simulate_pattern, optics=optics, shape=DETECTOR, patch=patch)
    return jax.lax.map(one, parameters, batch_size=16)


def means(parameters, optics):
    """Expected patterns of a scan."""
    patch = patch_side(float(optics.radius), float(optics.edge_width))
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), parameters)
    return np.asarray(expected_patterns(rows, optics, patch)).reshape(*SCAN, *DETECTOR)


def oracle(ratio, where):
    """The most positions of largest ratio of which at most one in twenty is none."""
    order = np.argsort(-ratio, axis=None)
    false = np.cumsum(~where.ravel()[order]) / np.arange(1, where.size + 1)
    found = np.zeros(where.size, bool)
    found[order[: np.flatnonzero(false <= FALSE).max(initial=-1) + 1]] = True
    return found.reshape(where.shape)


def unlike(counts, where):
    """Positions that the map says are unlike any domain, or are a domain of which most were planted."""
    found = map_domains(prepared_of(Dataset.from_array(counts)))
    own = [n for n in range(len(found.size)) if where[found.labels == n].mean() > 0.5]
    return found.unusual | np.isin(found.labels, own), len(found.size)


def judge(kind, number, dose, seed):
    counts, where, ratio = planted(kind, number, dose, seed)
    found, domains = unlike(counts, where)
    best = oracle(ratio, where)
    return {
        "domains": domains,
        "found": int((found & where).sum()),
        "false": int((found & ~where).sum()),
        "oracle": int((best & where).sum()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    parser.add_argument("--doses", type=float, nargs="+", default=[1e5, 1e4, 1e3])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--out", type=Path, default=HERE / "anomalies.json")
    options = parser.parse_args()
    use_all_cores()
    table = json.loads(options.out.read_text()) if options.out.exists() else {}
    for kind in options.kinds:
        for dose in options.doses:
            for number in BLOCKS:
                each = [judge(kind, number, dose, seed) for seed in options.seeds]
                row = {name: [one[name] for one in each] for name in each[0]}
                table[f"{kind}, {dose:g} electrons, {number}"] = {"seeds": options.seeds, **row}
                print(kind, f"{dose:g}", number, row, flush=True)
                options.out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
