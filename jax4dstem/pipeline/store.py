"""The results directory: what is finished, what can be reused, and one results file that is written whole.

While a run goes on, every finished stage is a file of its own in ``OUT/stages``, written atomically, so that a killed run
continues where it stopped. At the end they are joined to ``OUT/results.h5``, whose attribute ``stages`` keeps the key of every
stage, and removed. A key is a hash of what the stage needs (their keys), the recipe values it reads, and the version.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py

from jax4dstem._version import __version__
from jax4dstem.errors import InputError, OutputError
from jax4dstem.fields import Result, Tree
from jax4dstem.io.results import read_group, write_bytes, write_group
from jax4dstem.io.schema import SCHEMA
from jax4dstem.pipeline.results import KINDS, RESULTS
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.pipeline.stages import Stage

STAGES_FOLDER = "stages"
MADE = (RESULTS, STAGES_FOLDER, "figures", "report.html")  # what a run leaves in its directory


@dataclass
class Store:
    """The results directory of one run.

    Attributes:
        out: The directory.
        kept: Finished stages of the results file, by name: key, class of the result, paths, keys of what they need.
        about: Attributes of the results file.
    """

    out: Path
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, out: Path, fingerprint: Mapping[str, Any], overwrite: bool) -> "Store":
        """The directory, if it is this input's or empty.

        Raises:
            InputError: It holds results of another input, and ``overwrite`` is False.
        """
        path = out / RESULTS
        if not path.exists():
            return cls(out)
        try:
            with h5py.File(path) as file:
                about = dict(file.attrs)
        except OSError as error:
            if not overwrite:
                raise InputError(
                    f"{path} cannot be read: remove it, or give --overwrite"
                ) from error
            about = {}
        if about.get("input_hash") != fingerprint["hash"]:
            if not overwrite:
                raise InputError(
                    f"{out} holds results of another input ({about.get('input_path', 'unknown')}): "
                    "choose another directory, or give --overwrite"
                )
            for name in MADE:
                remove(out / name)
            return cls(out)
        return cls(out, json.loads(about.get("stages", "{}")), about)

    def read(self, stage: Stage, key: str) -> Result | None:
        """The finished result of a stage, or None."""
        for path, found in self._candidates(stage.name):
            if found.get("key") != key:
                continue
            kinds = {kind.__name__: kind for kind in stage.gives}
            with suppress(InputError, OSError, KeyError):  # not a finished stage: compute it again
                tree = self._kept_tree if path.name == RESULTS else read_group(path)[0]
                return kinds[found["result"]].from_fields(tree)
        return None

    def read_kept(self, name: str) -> Result | None:
        """The result of a stage of an earlier run, or None."""
        if name not in self.kept:
            return None
        return next(
            kind.from_fields(self._kept_tree)
            for kind in KINDS[name]
            if kind.__name__ == self.kept[name]["result"]
        )

    @cached_property
    def _kept_tree(self) -> Tree:
        """Fields of the results file, read once for all stages; it changes only when the run is finished."""
        return read_group(self.out / RESULTS)[0]

    def _candidates(self, name: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        if name in self.kept:
            yield self.out / RESULTS, self.kept[name]
        file = self.out / STAGES_FOLDER / f"{name}.h5"
        if file.exists():
            with suppress(InputError):
                yield file, read_group(file)[1]

    def write(self, stage: Stage, key: str, result: Result) -> None:
        """Keep a finished stage.

        Raises:
            OutputError: It cannot be written.
        """
        about = {"key": key, "result": type(result).__name__}
        write_group(self.out / STAGES_FOLDER / f"{stage.name}.h5", result.fields(), about)

    def finish(
        self, keys: Mapping[str, str], needs: Mapping[str, tuple[str, ...]], about: dict[str, Any]
    ) -> list[str]:
        """Join the finished stages, and those of earlier runs that still fit, to one results file.

        Args:
            keys: Of the stages of this run.
            needs: Of the stages of this run: the names of those that they need.
            about: Attributes of the file.

        Returns:
            Names of stages of earlier runs that fit no more.
        """
        stages, dropped = {}, []
        for name, found in self.kept.items():
            needed = found["needs"]
            if name in keys:
                continue
            if all(keys.get(other, key) == key for other, key in needed.items()) and not any(
                other in dropped for other in needed
            ):
                stages[name] = found
            else:
                dropped.append(name)
        image = BytesIO()
        with h5py.File(image, "w") as target:
            for found in stages.values():
                self._copy_kept(found["paths"], target)
            for name, key in keys.items():
                required = {other: keys[other] for other in needs[name] if other in keys}
                stages[name] = {"key": key, "needs": required} | self._copy_new(name, key, target)
            target.attrs.update(about | {"schema": SCHEMA, "stages": json.dumps(stages)})
        write_bytes(self.out / RESULTS, image.getbuffer())
        remove(self.out / STAGES_FOLDER)
        return dropped

    def _copy_new(self, name: str, key: str, target: h5py.File) -> dict[str, Any]:
        """Copy a stage of this run, from its own file or, where it was reused, from the results file."""
        file = self.out / STAGES_FOLDER / f"{name}.h5"
        if file.exists():
            with h5py.File(file) as source:
                if source.attrs["key"] == key:
                    paths = _paths(source)
                    _copy(source, target, paths)
                    return {"result": str(source.attrs["result"]), "paths": paths}
        found = self.kept[name]
        self._copy_kept(found["paths"], target)
        return {"result": found["result"], "paths": found["paths"]}

    def _copy_kept(self, paths: list[str], target: h5py.File) -> None:
        with h5py.File(self.out / RESULTS) as source:
            _copy(source, target, paths)

    def is_current(self, keys: Mapping[str, str]) -> bool:
        """Whether the results file holds just these stages already."""
        same = all(self.kept.get(name, {}).get("key") == key for name, key in keys.items())
        return same and not any((self.out / STAGES_FOLDER).glob("*.h5"))


def _paths(file: h5py.File) -> list[str]:
    """Paths of all datasets."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(name)

    file.visititems(visit)
    return found


def _copy(source: h5py.File, target: h5py.File, paths: list[str]) -> None:
    """Copy datasets as they are stored, compressed."""
    for path in paths:
        folder, _, name = path.rpartition("/")
        place = target.require_group(folder) if folder else target
        if name not in place:
            source.copy(path, place, name)


def stage_key(stage: Stage, recipe: Recipe, keys: Mapping[str, str], root: str) -> str:
    """Hash of everything that a stage's result depends on."""
    needed = [keys[name] for name in stage.all_needs(recipe)]
    read = {name: _plain(recipe, name) for name in stage.reads}
    text = json.dumps([stage.name, __version__, root, needed, read], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(recipe: Recipe, name: str) -> Any:
    value: Any = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def remove(path: Path) -> None:
    """Remove a file or directory of the results, if it is there.

    Raises:
        OutputError: It cannot be removed.
    """
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {path}: {error.strerror}") from error
