"""Models and the training engine: physics-free oracles, determinism, resume, devices, bad input."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from jax4dstem import Dataset, InputError, map_patterns
from jax4dstem.models import (
    AlignedEvidenceBound,
    AutoEncoderSpec,
    Convolutional,
    CountingNoise,
    Dense,
    EvidenceBound,
    GaussianNoise,
    Reconstruction,
    RotationInvariantSpec,
    VariationalSpec,
    best_rotation,
    counts_deviance,
    join,
    kl_to_standard_normal,
    l1,
    mean_squared_error,
    rotate_polar,
    split,
)
from jax4dstem.patterns.polar import to_polar
from jax4dstem.stream import batches
from jax4dstem.train import (
    ArrayFeed,
    DatasetFeed,
    EncodeAndJudge,
    Training,
    denoise,
    feed_of,
    load_model,
    save_model,
    train,
    validation_region,
)

LINE = AutoEncoderSpec((6,), 2, Dense((), "linear"))
QUICK = Training(epochs=4, batch_size=16, learning_rate=0.01)
SPECS = {
    "dense": (AutoEncoderSpec((12,), 3, Dense((8,), "tanh")), Reconstruction(sparsity=0.1)),
    "variational": (VariationalSpec((12,), 3, Dense((8,), "gelu")), EvidenceBound(warmup=0.5)),
    "denoising": (
        AutoEncoderSpec((12,), 3, Dense((8,), "gelu")),
        Reconstruction("poisson", CountingNoise(20.0, 0.1)),
    ),
    "convolutional": (AutoEncoderSpec((9, 14), 3, Convolutional((2, 4))), Reconstruction()),
    "rotation": (RotationInvariantSpec((4, 12), 2, Dense((8,), "gelu")), AlignedEvidenceBound()),
}


def plane(rng, n=96, noise=0.01):
    return rng.standard_normal((n, 2)) @ rng.standard_normal((2, 6)) + noise * rng.standard_normal(
        (n, 6)
    )


@pytest.mark.parametrize("name", SPECS)
def test_models_under_jit_vmap_and_grad(name, rng):
    spec, objective = SPECS[name]
    structure, weights = split(spec.build(0))
    x = jnp.asarray(rng.uniform(0.5, 2, (3, *spec.shape)), jnp.float32)

    def reconstruct(sample):
        return join(structure, weights)(sample)

    plain = jnp.stack([reconstruct(sample) for sample in x])
    chex.assert_trees_all_close(jax.jit(jax.vmap(reconstruct))(x), plain, rtol=1e-4, atol=1e-4)
    assert plain.shape == x.shape

    def loss(weights):
        key, done = jax.random.key(0), jnp.asarray(0.3)
        return sum(objective(join(structure, weights), (x[0], x[0]), key, done).values())

    gradient = jax.jit(jax.grad(loss))(weights)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_losses_have_their_closed_forms(rng):
    with jax.enable_x64(True):
        x, y = jnp.asarray(rng.uniform(1, 2, (2, 5)))
        for fn in (mean_squared_error, counts_deviance, kl_to_standard_normal):

            def of_arrays(a, b, fn=fn):
                return fn(jnp.asarray(a), jnp.asarray(b))

            check_grads(of_arrays, (x, y), order=1, modes=("rev",), rtol=1e-4)
        assert float(mean_squared_error(x, x)) == float(counts_deviance(x, x)) == 0
    assert float(counts_deviance(jnp.ones(4), jnp.zeros(4))) == pytest.approx(1)
    assert float(kl_to_standard_normal(jnp.array([1.0, 2.0]), jnp.zeros(2))) == pytest.approx(2.5)
    assert float(l1(jnp.array([1.0, -3.0]))) == 2
    noisy = GaussianNoise(2.0)(jnp.zeros(20_000), jax.random.key(0))
    assert float(noisy.std()) == pytest.approx(2, rel=0.03)


@pytest.mark.whole
def test_a_linear_autoencoder_is_pca(rng):
    basis = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    x = rng.standard_normal((400, 12)) * np.r_[3, 2.5, 2, np.linspace(0.8, 0.3, 9)] @ basis
    x = x - x.mean(0)
    spec = AutoEncoderSpec((12,), 3, Dense((), "linear"))
    options = Training(epochs=1500, batch_size=400, learning_rate=0.02)
    decoder = train(spec, Reconstruction(), ArrayFeed(x), options).weights["decoder"]
    kernel = decoder["layers"][0]["kernel"]
    angles = np.degrees(subspace_angles(kernel.T, PCA(3).fit(x).components_.T))
    assert angles.max() < 1


def test_the_same_seed_gives_the_same_weights_and_another_does_not(rng):
    x = plane(rng)
    runs = [train(LINE, Reconstruction(), ArrayFeed(x), replace(QUICK, seed=s)) for s in (1, 1, 2)]
    chex.assert_trees_all_equal(runs[0].weights, runs[1].weights)
    assert not np.array_equal(runs[0].history["loss"], runs[2].history["loss"])


def test_early_stopping_takes_the_best_weights(rng):
    x = rng.standard_normal((24, 6))
    spec = AutoEncoderSpec((6,), 5, Dense((64,), "relu"))
    other = rng.standard_normal((24, 6)).astype(np.float32)
    held = ArrayFeed(other)
    options = Training(epochs=300, batch_size=24, learning_rate=0.02, patience=5)
    found = train(spec, Reconstruction(), ArrayFeed(x), options, validation=held)
    losses = found.history["validation"]
    assert len(losses) < 300
    assert np.argmin(losses) == len(losses) - 6
    held_loss = float(np.mean((found.reconstruct(other) - other) ** 2))
    assert held_loss == pytest.approx(losses.min(), rel=1e-4)


def test_half_precision_trains_as_well(rng):
    x = plane(rng)
    options = Training(epochs=100, batch_size=96, learning_rate=0.05, precision="bfloat16")
    assert train(LINE, Reconstruction(), ArrayFeed(x), options).history["loss"][-1] < 0.1


def test_a_saved_model_loads_with_one_call(rng, tmp_path):
    x = plane(rng)
    spec = VariationalSpec((6,), 2, Dense((5, 4), "gelu"))
    found = train(spec, EvidenceBound(), ArrayFeed(x), QUICK, about={"file": "scan.h5"})
    save_model(tmp_path / "model.h5", found)
    loaded = load_model(tmp_path / "model.h5")
    assert loaded.spec == spec
    assert loaded.about["data"] == {"file": "scan.h5"}
    assert loaded.about["training"]["epochs"] == 4
    np.testing.assert_array_equal(loaded.encode(x), found.encode(x))
    np.testing.assert_array_equal(loaded.history["kl"], found.history["kl"])
    content = (tmp_path / "model.h5").read_bytes()
    (tmp_path / "model.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        load_model(tmp_path / "model.h5")


def scan_of(rng, shape=(9, 10)):
    return Dataset.from_array(rng.random((*shape, 4, 3), dtype=np.float32))


def test_batches_hold_every_position_once(rng):
    scan = scan_of(rng)
    flat = np.asarray(scan.source.read(slice(0, 9), slice(0, 10))).reshape(90, -1)
    chosen = rng.random((9, 10)) < 0.6
    for tile_bytes in (200, 10**6):
        for key in (None, jax.random.key(3)):
            found = [
                values[present > 0]
                for values, present in batches(scan, key, 16, chosen, tile_bytes=tile_bytes)
            ]
            found = np.concatenate(found).reshape(-1, 12)
            wanted = flat[chosen.ravel()]
            assert len(found) == len(wanted)
            order = [np.lexsort(rows.T) for rows in (found, wanted)]
            np.testing.assert_array_equal(found[order[0]], wanted[order[1]])
    first = [next(iter(batches(scan, jax.random.key(k), 16)))[0] for k in (0, 0, 1)]
    np.testing.assert_array_equal(first[0], first[1])
    assert not np.array_equal(first[0], first[2])


def test_streamed_training_learns_what_training_in_memory_does(rng):
    scan = scan_of(rng)
    everywhere = np.ones((9, 10), bool)
    assert isinstance(feed_of(scan, everywhere, limit=100), DatasetFeed)
    spec = AutoEncoderSpec((4, 3), 12, Dense((), "linear"))
    options = Training(epochs=150, batch_size=16, learning_rate=0.03)
    for feed in (feed_of(scan, everywhere), DatasetFeed(scan)):
        assert train(spec, Reconstruction(), feed, options).history["loss"][-1] < 1e-3


def test_a_trained_model_is_a_pattern_function(rng):
    scan = scan_of(rng)
    spec = AutoEncoderSpec((4, 3), 2, Convolutional((2,)))
    found = train(spec, Reconstruction(), DatasetFeed(scan), QUICK)
    codes, errors = map_patterns(EncodeAndJudge(spec), scan, found.weights)
    flat = np.asarray(scan.source.read(slice(0, 9), slice(0, 10))).reshape(90, 4, 3)
    np.testing.assert_allclose(codes.reshape(90, 2), found.encode(flat), atol=1e-5)
    lazy = map_patterns(mean_of, denoise(scan, found))
    np.testing.assert_allclose(lazy.ravel(), found.reconstruct(flat).mean(axis=(1, 2)), atol=1e-5)
    assert errors.shape == (9, 10)


def mean_of(pattern):
    return pattern.mean()


def test_validation_is_by_region():
    region = validation_region((40, 32), 0.2, seed=1)
    assert 0.15 < region.mean() < 0.3
    # A held-out position has held-out neighbors: blocks, not grains of salt.
    together = (region[1:] & region[:-1]).sum() / region.sum()
    assert together > 0.7
    among = np.zeros((40, 32), bool)
    among[:10] = True
    assert not validation_region((40, 32), 0.2, among=among)[10:].any()


def test_bad_input_is_told_before_training(rng, tmp_path):
    x = plane(rng)
    broken = x.copy()
    broken[3, 2] = np.nan
    with pytest.raises(InputError, match="1 of 96 samples"):
        ArrayFeed(broken)
    with pytest.raises(InputError, match="no sample"):
        ArrayFeed(x[:0])
    with pytest.raises(InputError, match="needs validation"):
        train(LINE, Reconstruction(), ArrayFeed(x), Training(patience=3))
    for options in ({"epochs": 0}, {"warmup": 1.0}, {"patience": 0}, {"learning_rate": -1.0}):
        with pytest.raises(InputError):
            Training(**options)
    with pytest.raises(InputError, match="not finite"):
        train(LINE, Reconstruction(), ArrayFeed(1e30 * x), QUICK)


def test_checkpoints_of_another_training_or_damaged_are_refused(rng, tmp_path):
    feed = ArrayFeed(plane(rng))
    folder = tmp_path / "checkpoint"
    first = train(LINE, Reconstruction(), feed, QUICK, checkpoint=folder)
    again = train(LINE, Reconstruction(), feed, QUICK, checkpoint=folder)
    chex.assert_trees_all_equal(first.weights, again.weights)
    with pytest.raises(InputError, match="another training \\(different training\\)"):
        train(LINE, Reconstruction(), feed, replace(QUICK, epochs=5), checkpoint=folder)
    with pytest.raises(InputError, match="different model"):
        train(
            AutoEncoderSpec((6,), 1, Dense((), "linear")),
            Reconstruction(),
            feed,
            QUICK,
            checkpoint=folder,
        )
    for file in (folder / "4").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        train(LINE, Reconstruction(), feed, QUICK, checkpoint=folder)


PROGRAM = textwrap.dedent("""
    import sys, time
    import jax
    import numpy as np
    sys.path.insert(0, {root!r})
    devices, mode, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    jax.config.update("jax_num_cpu_devices", devices)
    if mode.startswith("host"):
        jax.distributed.initialize(folder, 2, int(mode[4:]))
    from jax4dstem.models import AutoEncoderSpec, Dense, EvidenceBound, VariationalSpec
    from jax4dstem.train import ArrayFeed, Training, train

    x = np.random.default_rng(0).standard_normal((150, 20)).astype(np.float32)
    feed = ArrayFeed(x)
    if mode == "slow":
        run = feed.epoch
        def epoch(key, size):
            for batch in run(key, size):
                time.sleep(0.02)
                yield batch
        feed.epoch = epoch
    found = train(
        VariationalSpec((20,), 3, Dense((16,))),
        EvidenceBound(),
        feed,
        Training(epochs=12, batch_size=16, learning_rate=0.01),
        checkpoint=folder if mode in ("slow", "fast") else None,
    )
    if jax.process_index() == 0:
        print("RESULT", *found.history["loss"], float(np.abs(found.weights["decoder"]["layers"][0]["kernel"]).sum()).hex())
""")


def start(tmp_path, devices, mode, folder="none"):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(root=root))
    return subprocess.Popen(
        [sys.executable, str(program), str(devices), mode, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    values = next(line for line in out.splitlines() if line.startswith("RESULT")).split()[1:]
    return np.array([float(v) for v in values[:-1]]), values[-1]


@pytest.mark.slow
def test_several_devices_and_processes_give_the_single_device_loss(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    hosts = [start(tmp_path, 1, f"host{i}", address) for i in (0, 1)]
    losses = result_of(hosts[0])[0]
    hosts[1].communicate(timeout=100)
    single, four = (result_of(start(tmp_path, n, "alone"))[0] for n in (1, 4))
    np.testing.assert_allclose(four, single, rtol=1e-4)
    np.testing.assert_allclose(losses, single, rtol=1e-4)


REAL_SIZE = textwrap.dedent("""
    import numpy as np
    from jax4dstem.cli.devices import set_up_devices

    set_up_devices()
    import jax
    from jax4dstem.strain.bases import strain_by_bases
    from jax4dstem.strain.maps import StrainMap
    from jax4dstem.train.feeds import data_mesh

    rng = np.random.default_rng(0)
    noise = np.array([1e-3, 1e-3, 1e-3, 1e-3])
    values = np.where(np.arange(256)[:, None] < 128, 0.0, 0.02)[..., None] + noise * rng.standard_normal((256, 256, 4))
    covariance = np.tile(np.diag(noise**2), (256, 256, 1, 1))
    strain = StrainMap(*np.moveaxis(values, -1, 0), covariance, np.zeros((256, 256), np.int8), 10 * np.eye(2), "given")
    for _ in range(3):
        found = strain_by_bases(strain, n_bases=8)
    print("RESULT", jax.device_count(), data_mesh().size, len(np.unique(found.base)), found.base[0, 0] != found.base[-1, 0])
""")


@pytest.mark.slow
def test_training_at_real_size_runs_no_collective_between_cpu_devices():
    process = subprocess.run(
        [sys.executable, "-c", REAL_SIZE], capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-2000:]
    devices, mesh, bases, apart = process.stdout.splitlines()[-1].split()[1:]
    assert int(devices) == min(len(os.sched_getaffinity(0)), 8)
    assert (mesh, bases, apart) == ("1", "2", "True")


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    whole = result_of(start(tmp_path, 1, "fast", tmp_path / "whole"))
    killed = start(tmp_path, 1, "slow", tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "4").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)  # somewhere in the middle of an epoch
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert (tmp_path / "killed" / "4").exists()
    assert not (tmp_path / "killed" / "12").exists()
    resumed = result_of(start(tmp_path, 1, "fast", tmp_path / "killed"))
    np.testing.assert_array_equal(resumed[0], whole[0])
    assert resumed[1] == whole[1]


def crystal(rng, angle, kind):
    """A pattern of spots, turned; kind 0 has six of them at two radii, kind 1 four."""
    y, x = np.indices((48, 48)) - 23.5
    order, radius = ((6, 10.0), (4, 16.0))[kind]
    turns = angle + 2 * np.pi * np.arange(order) / order
    spots = [
        (1 + 0.3 * (i == 0))
        * np.exp(-((y + radius * np.sin(t)) ** 2 + (x - radius * np.cos(t)) ** 2) / 6)
        for i, t in enumerate(turns)
    ]
    return np.sum(spots, 0) + 0.02 * rng.standard_normal((48, 48))


@pytest.mark.whole
def test_rotation_is_separated_from_content(rng):
    angle = rng.uniform(0, 2 * np.pi, 160)
    kind = np.arange(160) % 2
    center = jnp.array([23.5, 23.5])
    patterns = jnp.asarray(
        np.stack([crystal(rng, a, k) for a, k in zip(angle, kind, strict=True)]), jnp.float32
    )
    polar = np.asarray(jax.vmap(lambda p: to_polar(p, center, 3.0, 22.0, (16, 96)))(patterns))
    polar = polar - polar.mean()
    spec = RotationInvariantSpec((16, 96), 2, Dense((64,), "gelu"))
    found = train(
        spec,
        AlignedEvidenceBound(),
        ArrayFeed(polar),
        Training(epochs=80, batch_size=32, learning_rate=2e-3),
    )
    codes, turned = found.encode(polar), found.apply("angle", polar)
    for k in (0, 1):
        gap = turned[kind == k] - angle[kind == k]
        gap = np.angle(np.exp(1j * (gap - np.angle(np.exp(1j * gap).mean()))))
        assert np.degrees(np.median(np.abs(gap))) < 2
    within = np.mean([codes[kind == k].std(axis=0).max() for k in (0, 1)])
    between = np.linalg.norm(codes[kind == 0].mean(0) - codes[kind == 1].mean(0))
    assert within < 0.1 * between


def test_turning_and_finding_the_turn_are_inverse(rng):
    x = jnp.asarray(rng.standard_normal((5, 91)), jnp.float32)
    smooth = rotate_polar(x, 0.0) + rotate_polar(x, 0.07) + rotate_polar(x, -0.07)
    for angle in (0.1, 1.0, 4.0):
        assert float(best_rotation(rotate_polar(smooth, angle), smooth)) == pytest.approx(
            angle, abs=0.02
        )
    back = rotate_polar(rotate_polar(smooth, 0.4), -0.4)
    np.testing.assert_allclose(back, smooth, atol=1e-4)
