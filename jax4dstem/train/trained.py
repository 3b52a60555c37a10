"""A trained model: its weights, how it came about, and one file that holds both."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jax4dstem import models
from jax4dstem._version import __version__
from jax4dstem.errors import InputError
from jax4dstem.fields import Entry, Field, Result, Tree, find
from jax4dstem.io.results import read_group, write_group
from jax4dstem.models.layers import description
from jax4dstem.typing import Array, Float

PROVENANCE = ("input_path", "input_hash", "recipe")  # what a results file says of its models' data
ABOUT = "data, objective, options and version"
ROWS = 256  # samples a trained model works on at once; one shape, so that it is compiled once


@dataclass(frozen=True)
class Trained(Result):
    """A trained model.

    Attributes:
        spec: What it is made of.
        weights: Nested dictionary of arrays.
        history: Loss and its terms by epoch.
        about: Data, objective, options and version.

    Example:
        >>> from jax4dstem.models import AutoEncoderSpec, Reconstruction
        >>> from jax4dstem.train import ArrayFeed, Training, train
        >>> feed = ArrayFeed(np.ones((8, 4)))
        >>> found = train(AutoEncoderSpec((4,), 2), Reconstruction(), feed, Training(epochs=1))
        >>> found.apply("encode", np.ones((3, 4))).shape, len(found.history["loss"])
        ((3, 2), 1)
    """

    spec: Any
    weights: Any
    history: dict[str, np.ndarray]
    about: dict[str, Any]

    @property
    def model(self) -> Any:
        """The Flax module; it works on one sample."""
        return models.join(structure_of(self.spec), self.weights)

    def fields(self) -> Tree:
        """As groups of a results file; `from_fields` is the inverse."""
        leaves = jax.tree_util.tree_leaves_with_path(self.weights)
        about = Field(json.dumps(self.about), "", ABOUT)
        return {
            "weights": {_name(where): _weight_field(_name(where), leaf) for where, leaf in leaves},
            "history": {
                name: Field(np.asarray(values), "", f"{name} by epoch", ("epoch",))
                for name, values in self.history.items()
            },
            "about": about,
        }

    @classmethod
    def layout(cls) -> dict[str, Entry]:
        """What `fields` gives, by path."""
        return {
            "weights/<name>": Entry(("...",), "", "weights of a layer", ""),
            "history/<name>": Entry(("epoch",), "", "loss, or one of its terms, by epoch", ""),
            "about": Entry((), "", ABOUT, ""),
        }

    @classmethod
    def from_fields(cls, tree: Tree) -> "Trained":
        """The model that `fields` describes.

        Raises:
            InputError: The fields are not those of a model of this version.
        """
        try:
            about = json.loads(str(tree["about"].data))
            spec = _from_description(about["model"])
            leaves, form = jax.tree_util.tree_flatten_with_path(models.split(spec.build(0))[1])
            values = [tree["weights"][_name(where)].data for where, _ in leaves]
            for value, (where, leaf) in zip(values, leaves, strict=True):
                if value.shape != leaf.shape:
                    raise ValueError(
                        f"weights {_name(where)} of shape {value.shape}, the model has {leaf.shape}"
                    )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"there is no model of this version: {error}") from error
        history = {name: field.data for name, field in tree["history"].items()}
        return cls(spec, jax.tree.unflatten(form, values), history, about)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Codes ``(n, latent)`` of samples ``(n, ...)``."""
        return self.apply("encode", x)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Samples ``(n, ...)`` of codes ``(n, latent)``."""
        return self.apply("decode", codes)

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """Reconstructions ``(n, ...)`` of samples ``(n, ...)``."""
        return self.apply("__call__", x)

    def apply(self, method: str, x: np.ndarray) -> np.ndarray:
        """Any method of the model on samples ``(n, ...)``, in batches of one shape."""
        run = _batched(self.spec, method)
        parts = []
        for begin in range(0, max(len(x), 1), ROWS):
            rows = np.asarray(x[begin : begin + ROWS], np.float32)
            padding = np.zeros((ROWS - len(rows), *x.shape[1:]), np.float32)
            parts.append(
                np.asarray(run(np.concatenate([rows, padding]), self.weights))[: len(rows)]
            )
        return np.concatenate(parts)


@functools.lru_cache(maxsize=32)
def structure_of(spec: Any) -> Any:
    """The static part of a model; the same object for the same description."""
    return models.split(spec.build(0))[0]


@dataclass(frozen=True)
class ApplyModel:
    """A method of a model on one sample, called ``(sample, weights)``.

    Attributes:
        spec: What the model is made of.
        method: "encode", "decode" or "__call__" (the reconstruction).

    Example:
        >>> import jax.numpy as jnp
        >>> from jax4dstem.models import AutoEncoderSpec, split
        >>> spec = AutoEncoderSpec((4,), 2)
        >>> ApplyModel(spec, "encode")(jnp.ones(4), split(spec.build(0))[1]).shape
        (2,)
    """

    spec: Any
    method: str

    def __call__(self, x: Float[Array, "..."], weights: Any) -> Float[Array, "..."]:
        """The method's value."""
        return getattr(models.join(structure_of(self.spec), weights), self.method)(x)


@functools.lru_cache(maxsize=64)
def _batched(spec: Any, method: str) -> Callable:
    return jax.jit(jax.vmap(ApplyModel(spec, method), (0, None)))


def about_training(
    spec: Any, objective: Any, options: Any, n_samples: int, data: dict[str, Any] | None
) -> dict[str, Any]:
    """What a training is, as plain data."""
    return {
        "version": __version__,
        "model": description(spec),
        "objective": description(objective)
        if hasattr(objective, "__dataclass_fields__")
        else str(objective),
        "training": description(options),
        "n_samples": n_samples,
        "data": data or {},
    }


def save_model(path: str | Path, trained: Trained) -> None:
    """Write a trained model to one HDF5 file, atomically: weights, history, and how it was trained.

    Args:
        path: The file.
        trained: The model.

    Example:
        >>> import tempfile
        >>> from jax4dstem.models import AutoEncoderSpec, Reconstruction
        >>> from jax4dstem.train import ArrayFeed, Training, train
        >>> feed = ArrayFeed(np.ones((8, 4)))
        >>> found = train(AutoEncoderSpec((4,), 2), Reconstruction(), feed, Training(epochs=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(f"{folder}/model.h5", found)
        ...     load_model(f"{folder}/model.h5").encode(np.ones((3, 4))).shape
        (3, 2)
    """
    write_group(path, trained.fields(), {})


def load_model(path: str | Path, group: str = "") -> Trained:
    """Read a model that `save_model` has written, or one inside a results file.

    Args:
        path: The file.
        group: Where in it, such as ``"latent/ae/regions/region_0/trained"``; the whole file by default.

    Returns:
        The model, with what is known of its data.

    Raises:
        InputError: The file is missing, damaged, or holds no model.

    Example:
        >>> import tempfile
        >>> from jax4dstem.models import AutoEncoderSpec, Reconstruction
        >>> from jax4dstem.train import ArrayFeed, Training, save_model, train
        >>> feed = ArrayFeed(np.ones((8, 4)))
        >>> found = train(AutoEncoderSpec((4,), 2), Reconstruction(), feed, Training(epochs=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(f"{folder}/model.h5", found)
        ...     load_model(f"{folder}/model.h5").spec.shape
        (4,)
    """
    tree, attributes = read_group(path)
    found = find(tree, group) if group else tree
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no model {group}")
    try:
        trained = Trained.from_fields(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    trained.about["data"] |= {name: attributes[name] for name in PROVENANCE if name in attributes}
    return trained


def _weight_field(name: str, leaf: Any) -> Field:
    values = np.asarray(leaf)
    return Field(values, "", "weights", tuple(f"{name}_{axis}" for axis in range(values.ndim)))


def _name(where: Any) -> str:
    """Name of a leaf of the weights in the file."""
    return ".".join(str(part.key) for part in where)


def _from_description(value: Any) -> Any:
    """The frozen description that `description` has made plain; only the package's own classes."""
    if isinstance(value, list):
        return tuple(_from_description(item) for item in value)
    if not isinstance(value, dict):
        return value
    kind = getattr(models, value["class"])
    return kind(**{field.name: _from_description(value[field.name]) for field in fields(kind)})
