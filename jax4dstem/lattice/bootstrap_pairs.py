"""How far off the information of a faint second lattice is, by fitting simulated patterns of two."""

import functools
from typing import Any

import jax
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.lattice.bootstrap import BATCH, draw_counts, excess_of
from jax4dstem.lattice.choice import FoundLattice
from jax4dstem.lattice.cold_start import Learned
from jax4dstem.lattice.learn_seconds import drawable, pair_of
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.pair import PairFit
from jax4dstem.lattice.render import render, render_disks
from jax4dstem.stream import map_patterns

DRAWN = 96  # patterns: k is told to 7 % of the bound's variance, the bar to half of that


def second_inflation(
    learned: Learned, pairs: PairFit, dose: np.ndarray, shape: tuple[int, int]
) -> float:
    r"""The k for which errors of a second lattice of variance σ² (1 + k / score²) cover what simulated patterns show.

    A second crystal is fainter than those that `error_inflation` draws, and the less light a lattice has the farther it is from the
    Cramér-Rao bound. So patterns of both fitted lattices on the learned background are drawn, searched and fitted again.

    Args:
        learned: Of the lattice.
        pairs: Fits ``(n, ...)`` of patterns that show two.
        dose: Electrons of these, ``(n,)``.
        shape: Of the patterns, ``(det_y, det_x)``.

    Returns:
        k, zero or more.
    """
    rng, model = np.random.default_rng(0), learned.setup.model
    which = rng.choice(len(dose), DRAWN)
    first, second = (
        jax.tree.map(lambda leaf: leaf[which], drawable(each))
        for each in (pairs.first, pairs.second)
    )
    shares = _expected_pairs((first, second), model, shape, model.probe.side())
    expected = np.asarray(shares) * dose[which][:, None, None]
    counts = draw_counts(model.detector.noise, expected, rng).astype(np.float32)
    found = map_patterns(
        pair_of(learned.measure),
        Dataset.from_array(counts[:, None]),
        (learned.setup, learned.setup),
        per_position=(jax.tree.map(lambda leaf: leaf[:, None], first),),
    )
    return excess_of(found.second, second.distortion[:, None])


@functools.partial(jax.jit, static_argnums=(2, 3))
def _expected_pairs(
    lattices: tuple[FoundLattice, FoundLattice],
    model: LatticeModel,
    shape: tuple[int, int],
    patch: int,
) -> jax.Array:
    """Expected share of the electrons in every pixel of every pattern; the direct beam is the first lattice's."""

    def one(both: Any) -> jax.Array:
        first, second = both
        alone = second.intensities.at[0].set(0.0)
        vectors = model.distorted(second.distortion)
        shares = render(shape, first.center, first.distortion, first.intensities, model, patch)
        return shares + render_disks(shape, first.center, vectors, alone, model, patch)

    return jax.lax.map(one, lattices, batch_size=BATCH)
