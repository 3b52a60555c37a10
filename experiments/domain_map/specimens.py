"""The domain map by the default recipe on specimens of many kinds, beside what the likelihood with true mean patterns says.

python experiments/domain_map/specimens.py --seeds 11 12 13
python experiments/domain_map/specimens.py --seeds --data cbed_wide2_like.mat --truth cbed_wide2_like_truth.h5
"""

import argparse
import importlib.util
import json
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from prepared import prepared_of
from sklearn.metrics import adjusted_rand_score

from jax4dstem import Dataset, map_domains, open_dataset, use_all_cores
from jax4dstem.simulate import polycrystal

HERE = Path(__file__).parent
CROP = (32, 40)
CORNERS = [(0, 0), (0, 56), (56, 0), (64, 56), (28, 28), (40, 4), (10, 30), (20, 10)]
GRAINS = (5, 12, 30)
BRIGHT = 1e7  # electrons, of which true mean patterns are taken


def from_experiment(folder, name):
    """A function of another experiment's specimen.py."""
    spec = importlib.util.spec_from_file_location(folder, HERE.parent / folder / "specimen.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def by_halves(prepared, label):
    """Domains of largest Poisson likelihood; true mean patterns are those of the other half of the positions."""
    counts = np.asarray(prepared.patterns).reshape(label.size, -1)
    half = np.random.default_rng(0).permutation(label.size) % 2
    label, found = label.ravel(), np.empty(label.size, int)
    for this in (0, 1):
        known = [counts[(half != this) & (label == n)] for n in range(label.max() + 1)]
        found[half == this] = largest_likelihood(counts[half == this], known)
    return found


def by_true_means(scan, label, interior, bright):
    """The same with mean patterns of the same specimen seen by more electrons, where it is pure."""
    counts, many = (
        np.asarray(each).reshape(label.size, -1).astype(float) for each in (scan, bright)
    )
    many *= counts.sum() / many.sum()
    label, interior = label.ravel(), interior.ravel()
    kinds = [label == n for n in range(label.max() + 1)]
    pure = [own & interior if np.any(own & interior) else own for own in kinds]
    return largest_likelihood(counts, [many[own] for own in pure])


def largest_likelihood(counts, known):
    means = np.array([part.mean(axis=0) for part in known]) + 1e-3 * np.mean(counts)
    return (counts @ np.log(means).T - means.sum(axis=1)).argmax(axis=1)


def score(scan, label, interior, bright=None):
    start, label = (
        time.perf_counter(),
        np.unique(label, return_inverse=True)[1].reshape(label.shape),
    )
    prepared = prepared_of(scan)
    found = map_domains(prepared)
    seconds = time.perf_counter() - start
    oracle = (
        by_halves(prepared, label)
        if bright is None
        else by_true_means(scan, label, interior, bright)
    )
    scores = {
        "all": adjusted_rand_score(label.ravel(), found.labels.ravel()),
        "interior": adjusted_rand_score(label[interior], found.labels[interior]),
        "likelihood": adjusted_rand_score(label.ravel(), oracle),
    }
    return {
        "true_domains": int(label.max()) + 1,
        "domains": len(found.size),
        "told_by": found.kind,
        "adjusted_rand_index": {name: round(value, 3) for name, value in scores.items()},
        "seconds": round(seconds),
    }


def grains(number, dose, seed):
    make = partial(polycrystal, (48, 48), (80, 80), n_grains=number, background=0.25, seed=seed)
    scan, truth = make(dose=dose)
    bright, _ = make(dose=BRIGHT)
    return scan, truth.grain, truth.purity > 0.9, bright


def other(folder, name, seed):
    scan, truth = from_experiment(folder, name)(seed=seed)
    return scan, truth.label, truth.interior


def crop(options, y, x):
    part = np.s_[y : y + CROP[0], x : x + CROP[1]]
    with h5py.File(options.truth) as truth:
        label, interior = truth["label"][part].astype(int), truth["interior"][part].astype(bool)
    return Dataset.from_array(np.asarray(open_dataset(options.data)[part])), label, interior


def specimens(options):
    """Name, and what makes scan, true labels and where they are pure."""
    for seed in options.seeds:
        for number in GRAINS:
            dose = "" if options.dose == 1e5 else f", {options.dose:g} electrons"
            yield (
                f"{number} grains, seed {seed}{dose}",
                partial(grains, number, options.dose, seed),
            )
        for folder, name in (("core_shell", "particle"), ("twin_domains", "twin_domains")):
            yield f"{folder}, seed {seed}", partial(other, folder, name, seed)
    for y, x in CORNERS if options.data else []:
        yield f"heterojunction at {y}, {x}", partial(crop, options, y, x)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="*", default=[11, 12, 13])
    parser.add_argument("--dose", type=float, default=1e5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--only", nargs="+", default=[""], help="how names begin")
    parser.add_argument("--out", type=Path, default=HERE / "specimens.json")
    options = parser.parse_args()
    use_all_cores()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name, make in specimens(options):
        if not name.startswith(tuple(options.only)):
            continue
        found[name] = score(*make())
        print(name, found[name], flush=True)
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
