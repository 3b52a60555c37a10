"""Pattern functions as LiberTEM's UDFs: the numbers of `map_patterns`."""

import sys
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jax4dstem import Dataset, InputError, bright_field, center_of_mass, map_patterns
from jax4dstem.neighbors import libertem_udf

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
CENTER = np.array([7.5, 8.0])


class Moment(NamedTuple):
    total: object
    offset: object


def moment(pattern, center, weight):
    """A tree of values, of a pattern, what differs between positions, and what all share."""
    weighted = weight["gain"] * pattern.astype(float)
    return Moment(weighted.sum(), {"yx": center_of_mass(weighted) - center})


@pytest.fixture
def data(rng):
    return rng.poisson(3.0, (4, 6, 16, 16)).astype(np.uint16)


@pytest.fixture
def ctx():
    api = pytest.importorskip("libertem.api")
    return api.Context.make_with("inline")


def test_libertem_gets_the_numbers_of_map_patterns(ctx, data):
    frames = ctx.load("memory", data=data, sig_dims=2, num_partitions=3)
    found = ctx.run_udf(frames, libertem_udf(bright_field, CENTER, 3.0))
    ours = map_patterns(bright_field, Dataset.from_array(data), CENTER, 3.0)
    np.testing.assert_array_equal(found["result"].data, ours)


def test_trees_and_what_differs_between_positions(ctx, data, rng):
    center, weight = rng.normal(7, 1, (4, 6, 2)).astype("f4"), {"gain": jnp.float32(0.5)}
    frames = ctx.load("memory", data=data, sig_dims=2, num_partitions=4)
    udf = libertem_udf(moment, weight, per_position=[center])
    found = ctx.run_udf(frames, udf)
    ours = map_patterns(moment, Dataset.from_array(data), weight, per_position=[center])
    assert set(found) == {"total", "offset_yx"}
    np.testing.assert_array_equal(found["total"].data, ours.total)
    np.testing.assert_array_equal(found["offset_yx"].data, ours.offset["yx"])
    roi = np.zeros((4, 6), bool)
    roi[1:3, 2] = True
    part = ctx.run_udf(frames, udf, roi=roi)
    np.testing.assert_array_equal(part["offset_yx"].data[roi], ours.offset["yx"][roi])
    assert np.isnan(part["offset_yx"].data[~roi]).all()


def test_beside_a_udf_of_libertem(ctx, data):
    """It sums by itself, in the same pass."""
    from libertem.udf.sum import SumUDF

    frames = ctx.load("memory", data=data, sig_dims=2)
    both = ctx.run_udf(frames, [libertem_udf(lambda p: p.sum()), SumUDF()])
    np.testing.assert_array_equal(both[0]["result"].data, data.sum(axis=(2, 3)))
    np.testing.assert_array_equal(both[1]["intensity"].data, data.sum(axis=(0, 1)))


def test_it_can_be_sent_to_other_processes(ctx, data, rng):
    cloudpickle = pytest.importorskip("cloudpickle")
    center = rng.normal(7, 1, (4, 6, 2)).astype("f4")
    udf = libertem_udf(moment, {"gain": jnp.float32(0.5)}, per_position=[center])
    again = cloudpickle.loads(cloudpickle.dumps(udf))
    frames = ctx.load("memory", data=data, sig_dims=2)
    np.testing.assert_array_equal(
        ctx.run_udf(frames, again)["offset_yx"].data, ctx.run_udf(frames, udf)["offset_yx"].data
    )


def test_a_wrong_argument_is_said(ctx):
    with pytest.raises(InputError, match=r"has shape \(3,\); it must start with the axes"):
        libertem_udf(moment, per_position=[np.ones(3)])


def test_without_libertem_it_is_said(monkeypatch):
    from jax4dstem.neighbors.libertem import _udf_class

    _udf_class.cache_clear()
    monkeypatch.setitem(sys.modules, "libertem.udf", None)
    with pytest.raises(InputError, match=r"pip install 'jax4dstem\[libertem\]'"):
        libertem_udf(bright_field, CENTER, 3.0)
