"""Other devices without having them: kernels export for GPUs and TPUs, nothing compiles twice, shards equal `pmap`."""

import subprocess
import sys
import textwrap
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax import export
from test_pattern_functions import CASES, arguments, marked

from jax4dstem import (
    Covariance,
    Dataset,
    Maximum,
    Mean,
    Moments,
    map_patterns,
    reduce_patterns,
)
from jax4dstem.models import AutoEncoderSpec, Dense, Reconstruction, split
from jax4dstem.stream import mapping, plan, reducing
from jax4dstem.train import ArrayFeed, Training, engine, train

ELSEWHERE = ("cuda", "tpu")
REDUCERS = {type(r).__name__: r for r in (Moments(), Mean(), Maximum(), Covariance())}
LINE = AutoEncoderSpec((6,), 2, Dense((), "linear"))


def lowered_elsewhere(fn, *args):
    """Lowering fails where a platform lacks an operation, so it is the answer to look at."""
    exported = export.export(fn, platforms=ELSEWHERE)(*args)
    assert exported.platforms == ELSEWHERE
    assert len(exported.mlir_module_serialized) > 0
    return exported


@pytest.mark.parametrize("name", marked(CASES))
def test_pattern_functions_export_in_single_precision(name, rng):
    exported = lowered_elsewhere(jax.jit(CASES[name].fn), *arguments(CASES[name], rng))
    floats = {aval.dtype for aval in exported.out_avals if aval.dtype.kind == "f"}
    assert floats <= {np.dtype("float32")}


def scaled(pattern, gain):
    return gain * pattern.astype(float)


@pytest.mark.parametrize("cache_batch", [2, 8])
def test_the_map_kernel_exports(cache_batch):
    kernel = mapping.map_kernel((scaled,), plan._local_mesh(), cache_batch)
    lowered_elsewhere(kernel, jnp.ones((8, 5, 4), jnp.uint16), ((),), ((jnp.ones(()),),))


@pytest.mark.parametrize("name", REDUCERS)
def test_reduction_kernels_export(name):
    row, weight = jax.ShapeDtypeStruct((4,), np.float32), jax.ShapeDtypeStruct((), np.float32)
    mesh = plan._local_mesh()
    fns = (first_row, reducing._pair_with_weight)
    kernel = reducing._reduce_kernel(fns, REDUCERS[name], mesh, 4, 4)
    state = reducing._initial_states(REDUCERS[name], row, weight, mesh)
    patterns, ones = jnp.ones((8, 5, 4), jnp.uint16), jnp.ones(8)
    lowered_elsewhere(kernel, state, patterns, ((), (ones,)), ones > 0, ((), ()))


def first_row(pattern):
    return pattern[0].astype(float)


def test_the_training_step_exports():
    structure, weights = split(LINE.build(0))
    options = Training()
    step, evaluate = engine._compiled(structure, Reconstruction(), options)
    start = engine.TrainState(weights, options.optimizer().init(weights), jnp.zeros((), jnp.int32))
    given = jax.random.key_data(jax.random.key(0)), jnp.ones(())
    batch = (jnp.ones((8, 6)), jnp.ones((8, 6))), jnp.ones(8)
    lowered_elsewhere(step, start, given, *batch)
    lowered_elsewhere(evaluate, weights, given, *batch)


class Traced:
    """A function that counts how often Python runs it, which it does to trace it and for nothing else."""

    def __init__(self, fn):
        self.fn, self.count = fn, 0

    def __call__(self, *args):
        self.count += 1
        return self.fn(*args)


def counts(seed, shape=(4, 6)):
    return np.random.default_rng(seed).poisson(6, (*shape, 5, 4)).astype(np.uint16)


def test_maps_of_other_values_do_not_trace_again():
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(lambda p, offset, gain: gain * p.sum() + offset, n=2)
    for seed in range(4):  # twice at most: the shape of the answer, and the kernel
        data, offset = counts(seed), np.full((4, 6), float(seed))
        found = map_patterns(traced, Dataset.from_array(data), 0.5 * seed, per_position=(offset,))
        np.testing.assert_allclose(found, 0.5 * seed * data.sum((2, 3)) + seed, rtol=1e-6)


@pytest.mark.parametrize("name", REDUCERS)
def test_reductions_of_other_values_do_not_trace_again(name):
    traced = Traced(lambda pattern, gain: gain * pattern[0].astype(float))
    runs = []
    for seed in range(3):
        scan = Dataset.from_array(counts(seed)).map(traced, 1.0 + seed)
        reduce_patterns(REDUCERS[name], scan, weights=np.full((4, 6), 0.5 + seed))
        runs.append(traced.count)
    assert runs[0] == runs[1] == runs[2] > 0


def test_training_longer_on_other_data_does_not_trace_again():
    traced = Traced(Reconstruction())
    runs = []
    for seed, epochs, samples in ((0, 1, 64), (1, 3, 64), (2, 2, 90)):
        x = np.random.default_rng(seed).standard_normal((samples, 6))
        options = Training(epochs=epochs, batch_size=16, seed=seed)
        train(LINE, traced, ArrayFeed(x), options)
        runs.append(traced.count)
    assert runs[0] == runs[1] == runs[2] > 0


class Variants(chex.TestCase):
    """The same with and without compilation."""

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*REDUCERS)
    def test_reducers(self, name):
        reducer, values = REDUCERS[name], np.random.default_rng(0).normal(3, 2, (12, 4))
        values = jnp.asarray(values, jnp.float32)
        weights = jnp.arange(12.0) % 3

        def whole(values, weights):
            spec, weight = values[0], weights[0]
            halves = [
                reducer.update(reducer.init(spec, weight), values[part], weights[part])
                for part in (slice(0, 5), slice(5, 12))
            ]
            return reducer.finalize(reducer.merge(*halves))

        expected = {
            "Mean": lambda v, w: np.average(v, axis=0, weights=w),
            "Moments": lambda v, w: np.sqrt(np.cov(v.T, aweights=w, bias=True).diagonal()),
            "Maximum": lambda v, w: v[w > 0].max(0),
            "Covariance": lambda v, w: np.cov(v.T, aweights=w, bias=True),
        }[name](np.asarray(values, np.float64), np.asarray(weights))
        found = self.variant(whole)(values, weights)
        field = {"Moments": "std", "Covariance": "covariance"}.get(name)
        found = found if field is None else getattr(found, field)
        chex.assert_trees_all_close(found, expected.astype(np.float32), rtol=1e-4)


PMAP = """
    import jax, jax.numpy as jnp, numpy as np, optax
    from functools import partial
    from jax.sharding import AxisType, Mesh
    from jax4dstem.models import AutoEncoderSpec, Dense, Reconstruction, join, split
    from jax4dstem.train import ArrayFeed, Training, engine, feeds, train

    assert jax.local_device_count() == 2
    mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    feeds.data_mesh = engine.data_mesh = lambda: mesh  # on CPUs the library itself takes one device

    spec, objective = AutoEncoderSpec((6,), 2, Dense((5,), "tanh")), Reconstruction(sparsity=0.01)
    x = np.random.default_rng(0).standard_normal((32, 6)).astype(np.float32)
    options = Training(epochs=3, batch_size=32, learning_rate=0.05)  # one step per epoch
    feed = ArrayFeed(x)
    (sample, _), _ = next(iter(feed.epoch(None, 32)))
    assert len(sample.sharding.device_set) == 2 and not sample.sharding.is_fully_replicated
    ours = train(spec, objective, feed, options)

    structure, weights = split(spec.build(options.seed))
    optimizer = options.optimizer()

    @partial(jax.pmap, axis_name="data", in_axes=(0, 0, 0, None))
    def step(weights, memory, x, count):
        def loss(weights):
            model = join(structure, weights)
            terms = jax.vmap(lambda s: objective(model, (s, s), jax.random.key(0), count / 3))(x)
            return sum(jnp.mean(value) for value in terms.values())

        gradient = jax.lax.pmean(jax.grad(loss)(weights), "data")
        updates, memory = optimizer.update(gradient, memory, weights)
        rate = options.rate(count, 3.0)
        return optax.apply_updates(weights, jax.tree.map(lambda u: -rate * u, updates)), memory

    state = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (weights, optimizer.init(weights)))
    for count in range(3):
        state = step(*state, x.reshape(2, 16, 6), jnp.asarray(count))
    moved = 0.0
    for a, b, start in zip(*map(jax.tree.leaves, (ours.weights, state[0], weights)), strict=True):
        np.testing.assert_allclose(a, b[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(b[0], b[1])
        moved = max(moved, float(np.abs(a - start).max()))
    assert moved > 0.01
"""


@pytest.mark.slow
def test_a_sharded_training_step_is_that_of_pmap():
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "import jax; jax.config.update('jax_num_cpu_devices', 2)\n" + textwrap.dedent(PMAP),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).resolve().parents[1],
    )
    assert process.returncode == 0, process.stderr[-2000:]
