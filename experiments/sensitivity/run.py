"""What tuning constants do: each at half and at double its value, on small benchmarks that differ in kind.

    python experiments/sensitivity/run.py                       # continues where it stopped; two hours on 2 cores
    python experiments/sensitivity/run.py --measured FILE       # a crop of a measured scan too
    python experiments/sensitivity/run.py --table               # prints the README's table from result.json

A benchmark is run for the constants that it is there for and that its code reads. Which these are is seen, not assumed: by the calls of functions that
read them, and for compiled functions by what happens without the constant.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from cases import BENCHMARKS, Benchmark, Figures, Run, of_measured
from constants import CONSTANTS, Constant, Place, forget_compiled, meaning, place_of
from jax.core import Tracer

from jax4dstem import InputError

HERE = Path(__file__).parent
SHARES = (
    "found",
    "wrong",
    "coverage",
    "pooled_coverage",
    "hot_found",
    "mixed",
    "ari",
    "merged",
    "state",
    "unusual",
)
NUMBERS = ("bases", "clusters", "bad")


@contextmanager
def seeing_calls(places: set[Place]) -> Iterator[dict[Place, bool]]:
    """Which of some functions are called, and whether any call was while JAX traced: by their place."""
    files, seen = {file for file, _ in places}, {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename in files:
            place = place_of(code)
            if place in places:
                seen[place] = seen.get(place, False) or _traces(frame.f_locals)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _traces(arguments: dict[str, Any]) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(list(arguments.values())))


def figures_of(run: Run) -> Figures | dict[str, str]:
    """Rounded figures, those that there are, or the error that a user would see."""
    try:
        return {name: float(f"{value:.5g}") for name, value in run().items() if np.isfinite(value)}
    except InputError as error:
        return {"error": str(error)}


def first(run: Run, about: tuple[str, ...]) -> dict[str, Any]:
    """Figures with all constants as they are, and the constants that were read: in compiled functions or outside."""
    places = set().union(*(constant.readers for constant in CONSTANTS))
    forget_compiled()
    with seeing_calls(places) as seen:
        figures = figures_of(run)
    reads = {}
    for constant in CONSTANTS:
        called = [seen[place] for place in constant.readers & set(seen)]
        if called and str(constant).startswith(about):
            reads[str(constant)] = "compiled" if any(called) else "outside"
    return {"default": figures, "reads": reads, "varied": {}}


def varied(run: Run, constant: Constant, how: str) -> dict[str, Any]:
    """Figures with one constant at half and at double its value."""
    found = {}
    for which, value in constant.variations().items():
        with constant.set_to(value):
            if how == "compiled":
                forget_compiled()
            found[which] = figures_of(run)
    return found


def check_looked_again(run: Run, constant: Constant) -> None:
    """Without the name the benchmark must fail: compiled functions do look again."""
    with constant.taken_away():
        forget_compiled()
        error = ""
        try:
            run()
        except NameError as stopped:
            error = str(stopped)
        assert constant.name in error, f"{constant} is not read"


def vary_all(
    jobs: dict[str, Benchmark],
    found: dict[str, Any],
    wanted: tuple[str, ...],
    save: Callable[[], None],
) -> None:
    """Everything that is missing; what needs no compilation first."""
    runs: dict[str, Run] = {}
    for how in ("outside", "compiled"):
        for name, job in jobs.items():
            for constant in CONSTANTS:
                key = str(constant)
                if not key.startswith(wanted):
                    continue
                known: Any = found.get(name)
                if known and (known["reads"].get(key) != how or key in known["varied"]):
                    continue
                if name not in runs:
                    runs[name] = job.make()
                    found[name] = known or first(runs[name], job.about)
                    runs[name]()  # compiled, and no profile in the way
                    save()
                    known = found[name]
                if known["reads"].get(key) != how:
                    continue
                begin = time.perf_counter()
                if how == "compiled" and not any(
                    key in other["varied"] for other in found.values()
                ):
                    check_looked_again(runs[name], constant)
                known["varied"][key] = varied(runs[name], constant, how)
                save()
                seconds = time.perf_counter() - begin
                moved = largest_move(known["default"], known["varied"][key])
                print(f"{name:16s} {key:40s} {seconds:6.1f} s  {moved}", flush=True)
            if how == "compiled" and name in runs:
                forget_compiled()


def largest_move(default: Figures, both: dict[str, Any]) -> tuple[float, str]:
    """How many per cent (of shares points) the figure moves that moves most, and its name; numbers of things only if no other does."""
    moves = [(0.0, "")]
    for figures in both.values():
        for name in set(default) & set(figures):
            unit = 1.0 if name.startswith(SHARES) else max(abs(default[name]), 1e-9)
            moves.append((100 * abs(figures[name] - default[name]) / unit, name))
        if "error" in figures:
            moves.append((np.inf, "error"))
    return max(moves, key=lambda move: (move[0] > 0 and not move[1].startswith(NUMBERS), *move))


def table(result: dict[str, Any]) -> str:
    """A row for every constant that was varied: what it is, and half, default and double for the figure that moves most."""
    lines = [
        "| constant | is | half / default / double | figure that moves most | half / default / double |",
        "| --- | --- | --- | --- | --- |",
    ]
    missing = []
    for constant in CONSTANTS:
        key = str(constant)
        read = {n: b for n, b in result["benchmarks"].items() if key in b["varied"]}
        if read:
            row = [
                f"`{key}`",
                meaning(constant),
                _triple(result["constants"][key]),
                *_effect(key, read),
            ]
            lines.append("| " + " | ".join(row) + " |")
        else:
            missing.append(f"`{key}`")
    return "\n".join(lines) + f"\n\nNot varied yet: {', '.join(missing) or 'none'}."


def _effect(key: str, read: dict[str, Any]) -> tuple[str, str]:
    """The figure that moves most, and its three values."""
    moves = {n: largest_move(b["default"], b["varied"][key]) for n, b in read.items()}
    name = max(moves, key=lambda n: moves[n])
    move, figure = moves[name]
    if move == 0:
        return f"none ({', '.join(read)})", ""
    both = read[name]["varied"][key] | {"default": read[name]["default"]}
    return f"{figure} ({name})", _triple({w: f.get(figure, "-") for w, f in both.items()})


def _triple(row: dict[str, Any]) -> str:
    return " / ".join(_text(row[which]) for which in ("half", "default", "double"))


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(part) for part in value)
    return value if isinstance(value, str) else f"{value:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--measured", type=Path, help="a measured scan with diffraction from crystals"
    )
    parser.add_argument("--only", nargs="+", help="benchmarks to run")
    parser.add_argument("--constants", nargs="+", default=[""], help="beginnings of their names")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--cache", type=Path, help="folder for compiled code that does not change")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.exists() else {"benchmarks": {}}
    if options.table:
        print(table(result))
        return
    if options.cache:
        jax.config.update("jax_compilation_cache_dir", str(options.cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    result["constants"] = {str(c): {"default": c.value} | c.variations() for c in CONSTANTS}

    def save() -> None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")

    jobs = dict(BENCHMARKS)
    if options.measured:
        jobs["measured"] = of_measured(options.measured)
    chosen = {name: job for name, job in jobs.items() if not options.only or name in options.only}
    vary_all(chosen, result["benchmarks"], tuple(options.constants), save)


if __name__ == "__main__":
    main()
