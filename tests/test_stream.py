import functools
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem import Covariance, Dataset, InputError, Maximum, Mean, Moments
from jax4dstem.stream import grad_patterns, map_patterns, reduce_patterns, tiles

scans = st.tuples(st.integers(1, 7), st.integers(1, 9))


def scan(shape, seed=0):
    return np.random.default_rng(seed).poisson(6, (*shape, 5, 4)).astype(np.uint16)


def scaled_sum(pattern, offset, gain):
    return {"sum": gain * jnp.sum(pattern.astype(float)) + offset, "image": gain * pattern}


@settings(deadline=None, max_examples=25)
@given(scans, st.integers(80, 4000))
def test_map_equals_numpy_for_any_tile_size(shape, tile_bytes):
    data = scan(shape)
    offset = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = map_patterns(
        scaled_sum, Dataset.from_array(data), 0.5, per_position=(offset,), tile_bytes=tile_bytes
    )
    np.testing.assert_allclose(found["sum"], 0.5 * data.sum((2, 3)) + offset, rtol=1e-6)
    np.testing.assert_allclose(found["image"], 0.5 * data)


@settings(deadline=None, max_examples=10)
@given(scans, st.integers(80, 4000), st.integers(0, 5))
def test_reducers_equal_numpy_for_any_tile_size(shape, tile_bytes, seed):
    data = scan(shape, seed)
    dataset = Dataset.from_array(data)
    moments, mean, largest = reduce_patterns(
        (Moments(), Mean(), Maximum()), dataset, tile_bytes=tile_bytes
    )
    np.testing.assert_allclose(moments.mean, data.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(moments.std, data.std((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, data.mean((0, 1)), rtol=1e-5)
    np.testing.assert_array_equal(largest, data.max((0, 1)))
    rows = dataset.map(lambda pattern: pattern[2].astype(float))
    expected = np.cov(data[:, :, 2].reshape(-1, 4).T, bias=True)
    found = reduce_patterns(Covariance(), rows, tile_bytes=tile_bytes)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-3, atol=1e-3)


REDUCERS = [Moments(), Mean(), Maximum(), Covariance()]


@functools.partial(jax.jit, static_argnums=0)
def state_of(reducer, part):
    spec, weight = jax.ShapeDtypeStruct((3,), np.float32), jax.ShapeDtypeStruct((), np.float32)
    return reducer.update(reducer.init(spec, weight), part, jnp.ones(len(part)))


@functools.partial(jax.jit, static_argnums=0)
def merged_of(reducer, a, b):
    return reducer.merge(a, b)


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.randoms())
@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda r: type(r).__name__)
def test_merge_order_does_not_matter(reducer, sizes, random):
    values = np.random.default_rng(0).normal(10, 2, (sum(sizes), 3)).astype(np.float32)
    parts = [state_of(reducer, part) for part in np.split(values, np.cumsum(sizes)[:-1])]
    random.shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = merged_of(reducer, part, merged)
    whole = jax.tree.leaves(reducer.finalize(state_of(reducer, values)))
    for a, b in zip(jax.tree.leaves(reducer.finalize(merged)), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_standard_deviation_is_safe_on_a_large_offset():
    data = (1e6 + np.random.default_rng(0).normal(0, 1, (20, 30, 3, 3))).astype(np.float32)
    std = reduce_patterns(Moments(), Dataset.from_array(data), tile_bytes=400).std
    np.testing.assert_allclose(std, data.astype(np.float64).std((0, 1)), rtol=1e-2)


def test_one_hot_weights_give_every_cluster():
    data = scan((6, 7))
    labels = np.random.default_rng(1).integers(0, 3, (6, 7))
    weights = np.eye(4)[labels]  # the fourth cluster is empty
    moments, largest = reduce_patterns(
        (Moments(), Maximum()), Dataset.from_array(data), weights=weights
    )
    for label in range(3):
        members = data[labels == label]
        np.testing.assert_allclose(moments.mean[label], members.mean(0), rtol=1e-5)
        np.testing.assert_allclose(moments.std[label], members.std(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(largest[label], members.max(0))
    assert np.isnan(moments.mean[3]).all()


def test_excluded_patterns_may_be_nan():
    data = scan((3, 4)).astype(np.float32)
    data[1, 2] = np.nan
    weights = np.ones((3, 4))
    weights[1, 2] = 0
    mean = reduce_patterns(Mean(), Dataset.from_array(data), weights=weights)
    np.testing.assert_allclose(mean, np.nanmean(data, axis=(0, 1)), rtol=1e-5)


def test_the_chain_is_lazy_and_fused():
    data = scan((3, 4))
    gain = np.random.default_rng(0).uniform(1, 2, (3, 4)).astype(np.float32)
    chained = (
        Dataset.from_array(data)
        .crop_scan(1, 3, 1, 4)
        .crop_detector(1, 5, 0, 4)
        .bin_detector(2)
        .map(lambda pattern, g: pattern * g, per_position=(gain[1:3, 1:4],))
    )
    assert chained.pattern_shape == (2, 2)
    found = map_patterns(lambda pattern: pattern, chained)
    cropped = data[1:3, 1:4, 1:5].reshape(2, 3, 2, 2, 2, 2).sum((3, 5))
    np.testing.assert_allclose(found, cropped * gain[1:3, 1:4, None, None], rtol=1e-6)


def test_new_parameters_do_not_compile_again():
    traces = []

    def traced(pattern, radius):
        traces.append(radius)
        return jnp.sum(pattern) * radius

    dataset = Dataset.from_array(scan((4, 4)))
    first = map_patterns(traced, dataset, jnp.float32(1.0))
    before = len(traces)
    second = map_patterns(traced, dataset, jnp.float32(2.0))
    # Only the abstract evaluation of the result's shape may run again, never the compilation.
    assert len(traces) - before <= 1
    np.testing.assert_allclose(second, 2 * first)


def test_results_can_go_to_a_file(tmp_path):
    data = scan((3, 4))
    with h5py.File(tmp_path / "out.h5", "w") as file:
        map_patterns(
            scaled_sum,
            Dataset.from_array(data),
            1.0,
            per_position=(np.zeros((3, 4), np.float32),),
            out=file.create_group("result"),
            tile_bytes=160,
        )
        np.testing.assert_allclose(file["result/image"][()], data)


@settings(deadline=None)
@given(scans, scans, st.integers(1, 40))
def test_tiles_cover_the_scan_once_and_follow_the_chunks(shape, chunks, limit):
    seen = np.zeros(shape, int)
    for tile in tiles(shape, chunks, limit):
        seen[tile.rows, tile.cols] += 1
        assert tile.rows.start % chunks[0] == 0
        assert tile.cols.start % chunks[1] == 0
        assert tile.n_patterns <= max(limit, chunks[0] * chunks[1])
    assert (seen == 1).all()


def test_tiles_are_alike_as_all_are_padded_to_the_largest():
    heights = [tile.rows.stop - tile.rows.start for tile in tiles((64, 64), (1, 64), 60 * 64)]
    assert heights == [32, 32]


def test_a_function_is_traced_once_however_often_it_is_mapped():
    traced = []

    def total(pattern):
        traced.append(pattern.shape)
        return pattern.sum()

    scan = Dataset.from_array(np.ones((2, 3, 4, 4), np.float32))
    map_patterns(total, scan)
    first = len(traced)
    map_patterns(total, scan)
    assert len(traced) == first


def test_per_position_arguments_must_match_the_scan():
    dataset = Dataset.from_array(scan((3, 4)))
    with pytest.raises(InputError, match=r"must start with the scan shape \(3, 4\)"):
        map_patterns(scaled_sum, dataset, 1.0, per_position=(np.zeros((4, 3)),))


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5, 6), (3, 4)])
def test_only_4d_arrays_are_scans(shape):
    with pytest.raises(InputError, match=f"{len(shape)} axes"):
        Dataset.from_array(np.zeros(shape))


def test_an_empty_scan_is_an_error():
    with pytest.raises(InputError, match="empty"):
        Dataset.from_array(np.zeros((0, 3, 4, 4)))


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("crop_scan", (2, 2, 0, 4), "empty or outside"),
        ("crop_scan", (0, 9, 0, 4), "empty or outside"),
        ("crop_detector", (0, 6, 0, 4), "empty or outside"),
        ("bin_detector", (5,), "cannot bin"),
        ("bin_detector", (0,), "cannot bin"),
    ],
)
def test_crops_and_bins_are_checked(method, arguments, message):
    with pytest.raises(InputError, match=message):
        getattr(Dataset.from_array(scan((3, 4))), method)(*arguments)


def test_a_reader_error_reaches_the_caller():
    class Broken:
        shape, dtype, chunks = (2, 2, 4, 4), np.dtype(np.uint8), (1, 1)

        def read(self, rows, cols):
            raise InputError("the file broke off")

    with pytest.raises(InputError, match="broke off"):
        map_patterns(lambda pattern: pattern, Dataset(Broken()))


def misfit(pattern, offset, model, exponent):
    """A loss with parameters in a tree; infinite for an empty pattern."""
    share = jnp.sum(pattern, axis=0) / jnp.sum(pattern.astype(float))
    return jnp.sum(model["height"] * share**exponent) + offset * model["level"] ** 2


@settings(deadline=None, max_examples=12)
@given(scans, st.integers(80, 4000))
def test_the_gradient_is_the_sum_of_single_gradients_for_any_tile_size(shape, tile_bytes):
    data, random = scan(shape), np.random.default_rng(1)
    offset, weights = random.normal(size=(2, *shape)).astype(np.float32)
    weights[random.uniform(size=shape) < 0.2] = 0
    data[weights == 0] = 0  # their loss is NaN
    model = {"height": jnp.arange(4.0), "level": jnp.float32(0.3)}
    value, gradient = grad_patterns(
        misfit,
        Dataset.from_array(data).map(lambda pattern, gain: gain * pattern, 2.0),
        model,
        1.5,
        per_position=(offset,),
        weights=weights,
        tile_bytes=tile_bytes,
    )
    single = jax.jit(jax.value_and_grad(misfit, argnums=2))
    values = [
        jax.tree.map(lambda leaf, w=weights[at]: w * leaf, single(data[at], offset[at], model, 1.5))
        for at in np.argwhere(weights != 0).tolist()
        for at in [tuple(at)]
    ]
    sums = (
        jax.tree.map(lambda *leaves: np.sum(leaves, axis=0, dtype=float), *values)
        if values
        else None
    )
    expected = sums or (0.0, jax.tree.map(np.zeros_like, model))
    for found, wanted in zip(
        jax.tree.leaves((value, gradient)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    assert gradient["height"].dtype == np.float32


def test_gradients_of_whole_numbers_and_of_maps_are_refused():
    dataset = Dataset.from_array(scan((2, 3)))
    with pytest.raises(InputError, match="floating-point arrays, not of int32"):
        grad_patterns(lambda p, k: jnp.sum(k * p.astype(float)), dataset, jnp.arange(4))
    with pytest.raises(InputError, match="must return one number"):
        grad_patterns(lambda pattern, gain: gain * pattern, dataset, 1.0)
    with pytest.raises(InputError, match="must start with the scan shape"):
        grad_patterns(lambda p, gain: gain * jnp.sum(p), dataset, 1.0, weights=np.ones((3, 2)))


def test_the_derivative_of_a_lift_is_one_clear_error():
    dataset = Dataset.from_array(scan((2, 3)))

    def scaled(pattern, gain):
        return gain * pattern

    def mapped(gain):
        return map_patterns(scaled, dataset, gain).sum()

    def reduced(gain):
        return reduce_patterns(Mean(), dataset.map(scaled, gain)).sum()

    for lifted in (mapped, reduced, jax.jit(mapped)):
        with pytest.raises(InputError, match="call grad_patterns"):
            jax.grad(lifted)(1.0)


SEVERAL_DEVICES = """
    import jax, jax.numpy as jnp, numpy as np
    from jax4dstem import Dataset, Moments, grad_patterns, map_patterns, reduce_patterns
    assert jax.device_count() == 3
    data = np.random.default_rng(0).poisson(6, (7, 11, 5, 4)).astype(np.uint16)
    dataset = Dataset.from_array(data)
    for tile_bytes in (300, 10**6):
        total = map_patterns(lambda p: p.astype(float).sum(), dataset, tile_bytes=tile_bytes)
        np.testing.assert_allclose(total, data.sum((2, 3)))
        std = reduce_patterns(Moments(), dataset, tile_bytes=tile_bytes).std
        np.testing.assert_allclose(std, data.std((0, 1)), rtol=1e-4)
        loss = lambda p, gain: gain**2 * jnp.sum(p.astype(float))
        value, slope = grad_patterns(loss, dataset, 3.0, tile_bytes=tile_bytes)
        np.testing.assert_allclose([value, slope], [9 * data.sum(), 6 * data.sum()], rtol=1e-5)
"""

TWO_PROCESSES = """
    import sys, jax, jax.numpy as jnp, numpy as np
    jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
    from jax4dstem import Dataset, Moments, grad_patterns, map_patterns, reduce_patterns
    data = np.random.default_rng(0).poisson(6, (7, 11, 5, 4)).astype(np.uint16)
    dataset = Dataset.from_array(data)
    total = map_patterns(lambda p: p.astype(float).sum(), dataset, tile_bytes=800)
    np.testing.assert_allclose(total, data.sum((2, 3)))
    std = reduce_patterns(Moments(), dataset, tile_bytes=800).std
    np.testing.assert_allclose(std, data.std((0, 1)), rtol=1e-4)
    loss = lambda p, gain: gain**2 * jnp.sum(p.astype(float))
    value, slope = grad_patterns(loss, dataset, 3.0, tile_bytes=800)
    np.testing.assert_allclose([value, slope], [9 * data.sum(), 6 * data.sum()], rtol=1e-5)
"""


def run_script(text, *arguments, **environment):
    import os

    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_several_devices_give_the_same_answer():
    process = run_script(SEVERAL_DEVICES, JAX_NUM_CPU_DEVICES="3", JAX_PLATFORMS="cpu")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_two_processes_give_the_same_answer():
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    pair = [run_script(TWO_PROCESSES, str(i), port, JAX_PLATFORMS="cpu") for i in range(2)]
    for process in pair:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


@dataclass
class ChunkedSource:
    """Patterns in memory that tell how often they were read."""

    data: np.ndarray
    chunks: tuple[int, int]
    reads: int = 0

    @property
    def shape(self):
        return self.data.shape

    @property
    def dtype(self):
        return self.data.dtype

    def read(self, rows, cols):
        self.reads += 1
        return self.data[rows, cols]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 10), min_size=1, max_size=8),
    st.lists(st.integers(0, 12), min_size=1, max_size=8),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_any_rows_and_columns_can_be_sampled(rows, cols, chunks):
    data = np.arange(11 * 13 * 2 * 3).reshape(11, 13, 2, 3).astype(np.float32)
    sampled = Dataset(ChunkedSource(data, chunks)).sample_scan(rows, cols)
    found = sampled.source.read(slice(0, len(rows)), slice(0, len(cols)))
    np.testing.assert_array_equal(found, data[np.ix_(rows, cols)])


def test_a_sample_reads_every_chunk_once(rng):
    source = ChunkedSource(rng.random((12, 15, 2, 2)), (4, 5))
    sampled = Dataset(source).sample_scan(range(0, 12, 2), range(1, 15, 2))
    sampled.source.read(slice(0, 6), slice(0, 7))
    assert source.reads == 9
