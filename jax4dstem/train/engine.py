"""The training engine: one pure step, jitted over all devices, and the epochs around it.

Data parallelism is a mesh with one axis: a batch is sharded over it, weights are replicated, and XLA adds
the sums over devices. The same function runs on one device, on many and on many processes; `pmap`, which
JAX calls the old way, needs another leading axis in all arguments and stops at one process's devices.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

from jax4dstem.errors import InputError
from jax4dstem.models import join, split
from jax4dstem.train.checkpoint import Checkpoints
from jax4dstem.train.feeds import Feed, data_mesh, replicated
from jax4dstem.train.options import Training
from jax4dstem.train.trained import Trained, about_training

COUNT = "_count"  # of samples in a batch, beside its terms


class TrainState(NamedTuple):
    """Everything a step changes.

    Attributes:
        weights: Pytree of the model's arrays.
        optimizer: The optimizer's memory, a pytree.
        step: Number of steps done.
    """

    weights: Any
    optimizer: Any
    step: jax.Array


class _Course(NamedTuple):
    """What is known between two epochs; `best` is the smallest loss so far and its weights."""

    state: TrainState
    best: Any
    history: list[dict[str, float]]


def train(
    spec: Any,
    objective: Callable,
    feed: Feed,
    options: Training | None = None,
    *,
    validation: Feed | None = None,
    checkpoint: str | Path | None = None,
    about: dict[str, Any] | None = None,
    progress: str | None = None,
) -> Trained:
    """Train a model.

    Args:
        spec: What the model is made of, such as `AutoEncoderSpec`; it builds it.
        objective: ``objective(model, sample, key, progress)`` of one sample returns named, weighted terms
            whose sum is the loss; a frozen dataclass or a function.
        feed: The training data.
        options: Of the training.
        validation: Data whose loss is followed, and decides with ``options.patience``.
        checkpoint: A directory where the state is kept after every epoch; a run that was killed continues
            from there and ends with the same weights. Belongs to one model, data and options.
        about: Where the data come from; kept with the model.
        progress: Label of the progress bar, shown in terminals and notebooks.

    Returns:
        The trained model with the history of its losses.

    Raises:
        InputError: The data are empty, the checkpoint is damaged or of another training, or the loss is
            not finite.

    Example:
        >>> import numpy as np
        >>> from jax4dstem.models import AutoEncoderSpec, Dense, Reconstruction
        >>> from jax4dstem.train import ArrayFeed, Training
        >>> x = np.outer(np.linspace(-1, 1, 64), np.ones(8))
        >>> line = AutoEncoderSpec((8,), 1, Dense((), "linear"))
        >>> options = Training(epochs=200, batch_size=64, learning_rate=0.05)
        >>> bool(train(line, Reconstruction(), ArrayFeed(x), options).history["loss"][-1] < 1e-2)
        True
    """
    options = options or Training()
    if options.patience is not None and validation is None:
        raise InputError("early stopping (patience) needs validation data")
    mesh = data_mesh()
    size = _batch_size(options.batch_size, feed.n_samples, mesh.size)
    per_epoch = -(-feed.n_samples // size)
    structure, weights = split(spec.build(options.seed))
    steps = per_epoch * options.epochs
    step, evaluate = _compiled(structure, objective, replace(options, seed=0, epochs=1))
    start = TrainState(weights, options.optimizer().init(weights), jnp.zeros((), jnp.int32))
    start = replicated(start, mesh)
    course = _Course(start, (jnp.asarray(jnp.inf), _copy(start.weights)), [])
    info = about_training(spec, objective, options, feed.n_samples, about)
    kept = Checkpoints(checkpoint, info) if checkpoint is not None else None
    if kept is not None:
        course = _Course(*kept.restore(course))
    order, noise = jax.random.split(jax.random.key(options.seed))
    given = replicated((jax.random.key_data(noise), np.float32(steps)), mesh)
    with tqdm(
        total=options.epochs * feed.n_samples,
        initial=len(course.history) * feed.n_samples,
        desc=progress,
        unit="sample",
        unit_scale=True,
        disable=True if progress is None else None,
    ) as bar:
        for epoch in range(len(course.history), options.epochs):
            if _has_converged(course.history, options.patience):
                break
            state, losses = course.state, []
            for batch in feed.epoch(jax.random.fold_in(order, epoch), size):
                state, terms = step(state, given, *batch)
                losses.append(terms)
            row = _mean_terms(losses)
            if not np.isfinite(row["loss"]):
                raise InputError(
                    f"the loss is not finite in epoch {epoch + 1}: smaller learning rate?"
                )
            if validation is not None:
                row["validation"] = _validate(evaluate, (state.weights, given), validation, size)
            course = _advance(course, state, row)
            bar.update(feed.n_samples)
            bar.set_postfix(loss=f"{row['loss']:.3g}")
            if kept is not None:
                kept.save(epoch + 1, course)
    final = course.state.weights if options.patience is None else course.best[1]
    history = {name: np.array([row[name] for row in course.history]) for name in course.history[0]}
    return Trained(spec, jax.tree.map(np.asarray, final), history, info)


def _batch_size(wanted: int, n_samples: int, n_devices: int) -> int:
    """At most the data, rounded up to a multiple of the devices."""
    if n_samples == 0:
        raise InputError("there is no sample to train on")
    return -(-min(wanted, n_samples) // n_devices) * n_devices


@functools.lru_cache(maxsize=32)
def _compiled(structure: Any, objective: Callable, options: Training) -> Any:
    """The step ``(state, (key, steps), samples, present) -> (state, terms)``, and the loss without a step."""
    optimizer = options.optimizer()

    def loss(weights: Any, sample: Any, present: Any, key: Any, done: Any) -> Any:
        if options.precision == "bfloat16":
            weights, sample = jax.tree.map(
                lambda leaf: leaf.astype(jnp.bfloat16), (weights, sample)
            )
        model = join(structure, weights)
        keys = jax.random.split(key, len(present))
        terms = jax.vmap(lambda one, k: objective(model, one, k, done))(sample, keys)
        weight = present / jnp.maximum(present.sum(), 1)
        # A padding row may give NaN, and 0 * NaN is NaN.
        terms = {
            name: jnp.sum(jnp.where(present > 0, value.astype(jnp.float32), 0) * weight)
            for name, value in terms.items()
        }
        return sum(terms.values()), terms

    def step(
        state: TrainState, given: tuple[jax.Array, jax.Array], sample: Any, present: Any
    ) -> tuple[TrainState, Any]:
        noise, steps = given
        key = jax.random.fold_in(jax.random.wrap_key_data(noise), state.step)
        gradient, terms = jax.grad(loss, has_aux=True)(
            state.weights, sample, present, key, state.step / steps
        )
        updates, memory = optimizer.update(gradient, state.optimizer, state.weights)
        rate = -options.rate(state.step, steps)
        weights = optax.apply_updates(state.weights, jax.tree.map(lambda u: rate * u, updates))
        return TrainState(weights, memory, state.step + 1), {**terms, COUNT: present.sum()}

    def evaluate(
        weights: Any, given: tuple[jax.Array, jax.Array], sample: Any, present: Any
    ) -> Any:
        key = jax.random.wrap_key_data(given[0])
        value = loss(weights, sample, present, key, jnp.ones(()))[0]
        return {"loss": value, COUNT: present.sum()}

    return jax.jit(step, donate_argnums=0), jax.jit(evaluate)


def _mean_terms(losses: list[dict[str, Any]]) -> dict[str, float]:
    """Means over an epoch; only here the host waits for the device."""
    counts = np.array([float(terms.pop(COUNT)) for terms in losses])
    row = {
        name: float(np.average([float(terms[name]) for terms in losses], weights=counts))
        for name in losses[0]
    }
    return {"loss": sum(row.values()), **row}


def _validate(evaluate: Callable, given: tuple[Any, ...], feed: Feed, size: int) -> float:
    values = [evaluate(*given, *batch) for batch in feed.epoch(None, size)]
    return _mean_terms(values)["loss"]


def _advance(course: _Course, state: TrainState, row: dict[str, float]) -> _Course:
    """After an epoch: the weights are the best so far if its validation loss is."""
    score = row.get("validation", row["loss"])
    best = course.best
    if score < float(best[0]):
        best = (jnp.asarray(score, jnp.float32), _copy(state.weights))
    return _Course(state, best, [*course.history, row])


def _has_converged(history: list[dict[str, float]], patience: int | None) -> bool:
    if patience is None or not history:
        return False
    return len(history) - 1 - int(np.argmin([row["validation"] for row in history])) >= patience


def _copy(weights: Any) -> Any:
    """Buffers of their own: those of the state are donated to the next step."""
    return jax.tree.map(jnp.copy, weights)
