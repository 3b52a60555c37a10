"""`analyze`: run the stages, reuse what is finished, write the results file.

Every finished stage is a file of its own in ``OUT/stages``, written atomically and keyed by its
inputs: the data file, the recipe sections it reads, the package version and the key of the stage
before. A second run with the same keys reads it instead of computing; a killed run continues where it
stopped.
"""

import dataclasses
import datetime
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import sklearn

from jax4dstem._version import __version__
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError, OutputError
from jax4dstem.io import open_dataset
from jax4dstem.io.results import read_group, write_group
from jax4dstem.pipeline.prepared import bin_factor
from jax4dstem.pipeline.recipe import check_recipe_fits, dump_recipe
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.pipeline.stages import STAGES, Stage
from jax4dstem.typing import Tree

RESULTS = "results.h5"
HASHED_BLOCKS, BLOCK = 64, 2**16


def analyze(
    path: str | Path,
    out: str | Path,
    recipe: Recipe | None = None,
    say: Callable = print,
    stages: tuple[Stage, ...] = STAGES,
    *,
    overwrite: bool = False,
) -> Path:
    """Run every stage on a file and write ``OUT/results.h5``.

    Args:
        path: The raw data; see `open_dataset` for what can be read.
        out: Directory for the results; made when it does not exist.
        recipe: Every parameter; the default finds what it can from the data.
        say: Receives one line per stage.
        stages: What to run; the default is everything.
        overwrite: Replace results of other data in OUT.

    Returns:
        The path of the results file.

    Raises:
        InputError: The data or recipe cannot be used; nothing has been written.
        OutputError: The results cannot be written.
    """
    recipe = recipe or Recipe()
    options = dataclasses.asdict(recipe.input)
    options.pop("invalid_patterns")
    dataset = open_dataset(path, **options)
    return analyze_dataset(dataset, out, recipe, say, stages, overwrite=overwrite)


def analyze_dataset(
    dataset: Dataset,
    out: str | Path,
    recipe: Recipe | None = None,
    say: Callable = print,
    stages: tuple[Stage, ...] = STAGES,
    *,
    overwrite: bool = False,
) -> Path:
    """Run every stage on a dataset; see `analyze`. Stages are reused for datasets that are files."""
    recipe, out = recipe or Recipe(), Path(out)
    check_recipe_fits(recipe, dataset)
    fingerprint = _fingerprint(dataset)
    with _workspace(out):
        done: Tree = {}
        key = hashlib.sha256(json.dumps(fingerprint).encode()).hexdigest()
        for number, stage in enumerate(stages, start=1):
            key = _stage_key(stage, recipe, key)
            begin = time.perf_counter()
            groups, reused = _run_or_read(stage, dataset, done, recipe, key, out)
            merge(done, groups)
            took = "reused" if reused else f"{time.perf_counter() - begin:.1f} s"
            say(f"[{number}/{len(stages)}] {stage.name:<9} {took}")
        write_group(out / RESULTS, done, _provenance(dataset, recipe, fingerprint, done))
    return out / RESULTS


def analyze_in_memory(
    dataset: Dataset, recipe: Recipe | None = None, stages: tuple[Stage, ...] = STAGES
) -> Tree:
    """Results of the stages for a dataset that needs no files: a simulation, a part of a scan.

    Args:
        dataset: The patterns.
        recipe: Every parameter.
        stages: What to run.

    Returns:
        The groups of the results file, with a `Field` per dataset.
    """
    recipe = recipe or Recipe()
    check_recipe_fits(recipe, dataset)
    done: Tree = {}
    for stage in stages:
        merge(done, stage.run(dataset, done, recipe))
    return done


class _workspace:
    """The output directory while stages run; on failure a directory that was made is removed again."""

    def __init__(self, out: Path):
        self.out = out
        self.made: list[Path] = []

    def __enter__(self) -> None:
        try:
            for folder in [*reversed(self.out.parents), self.out, self.out / "stages"]:
                if not folder.exists():
                    folder.mkdir()
                    self.made.append(folder)
            probe = self.out / ".write-test"
            probe.touch()
            probe.unlink()
        except OSError as error:
            self._undo()
            raise OutputError(f"cannot write to {self.out}: {error.strerror}") from error

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self._undo()

    def _undo(self) -> None:
        """Remove the directories this run made, as far as no finished stage lies in them."""
        for folder in reversed(self.made):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def merge(done: Tree, groups: Tree) -> None:
    """Add the groups of a stage to those of earlier ones."""
    for name, item in groups.items():
        if isinstance(item, dict):
            merge(done.setdefault(name, {}), item)
        else:
            done[name] = item


def _run_or_read(
    stage: Stage, dataset: Dataset, done: Tree, recipe: Recipe, key: str, out: Path
) -> tuple[Tree, bool]:
    file = out / "stages" / f"{stage.name}.h5"
    if file.exists():
        try:
            groups, attributes = read_group(file)
            if attributes.get("key") == key:
                return groups, True
        except (InputError, OSError):
            pass  # not a finished stage: compute it again
    groups = stage.run(dataset, done, recipe)
    write_group(file, groups, {"key": key})
    return groups, False


def _stage_key(stage: Stage, recipe: Recipe, before: str) -> str:
    parts = {name: getattr(recipe, name) for name in stage.sections}
    plain = {
        name: dataclasses.asdict(part) if dataclasses.is_dataclass(part) else part  # type: ignore[arg-type]
        for name, part in parts.items()
    }
    text = json.dumps([stage.name, __version__, before, plain], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(dataset: Dataset) -> dict[str, Any]:
    """What identifies the input: for a file its path, size and the hash of 64 blocks spread over it.

    A dataset in memory is identified by the hash of its patterns.
    """
    digest = hashlib.sha256()
    if dataset.path is None:
        rows, cols = dataset.scan_shape
        for row in range(rows):
            block = dataset.source.read(slice(row, row + 1), slice(0, cols))
            digest.update(np.ascontiguousarray(block).tobytes())
        size = int(np.prod(dataset.shape)) * dataset.dtype.itemsize
        return {"path": "memory", "size": size, "hash": digest.hexdigest()}
    path = Path(dataset.path)
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    sizes = [file.stat().st_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as handle:
            blocks = 1 if path.is_dir() else HASHED_BLOCKS
            for offset in np.linspace(0, max(0, size - BLOCK), blocks, dtype=int):
                handle.seek(offset)
                digest.update(handle.read(BLOCK))
    return {"path": str(path.resolve()), "size": sum(sizes), "hash": digest.hexdigest()}


def _provenance(
    dataset: Dataset, recipe: Recipe, fingerprint: dict[str, Any], done: Tree
) -> dict[str, Any]:
    """Attributes of the results file's root."""
    calibration = dataset.calibration
    factor = bin_factor(dataset, recipe)
    radii = done["images"].pop("radii").data
    features = {}
    if "features" in done:
        ring = done["features"]["ring"].data
        features = {
            "pattern_shape": done["features"]["mean_pattern"].data.shape,
            "ring_inner": float(ring[0]),
            "ring_outer": float(ring[1]),
        }
    return {
        "recipe": dump_recipe(recipe),
        "version": __version__,
        "jax_version": jax.__version__,
        "numpy_version": np.__version__,
        "sklearn_version": sklearn.__version__,
        "seed": recipe.seed,
        "input_path": fingerprint["path"],
        "input_size": fingerprint["size"],
        "input_hash": fingerprint["hash"],
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "notes": "\n".join(dataset.notes),
        "scan_shape": dataset.scan_shape,
        "detector_shape": dataset.pattern_shape,
        "pixel_inv_angstrom": _or_nan(calibration.pixel_inv_angstrom),
        "pattern_pixel_inv_angstrom": _or_nan(calibration.binned(factor).pixel_inv_angstrom),
        "scan_step_nm": _or_nan(calibration.scan_step_nm),
        "beam_center": done["beam"]["center"].data,
        "beam_radius": float(done["beam"]["radius"].data),
        **features,
        "bright_field_radius": float(radii[0]),
        "dark_field_inner": float(radii[1]),
        "dark_field_outer": float(radii[2]),
    }


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
