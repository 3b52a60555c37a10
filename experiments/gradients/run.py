"""Automatic derivatives of every pattern function against central finite differences, argument by argument.

    python experiments/gradients/run.py            # a few minutes, writes result.json and the table of README.md

The functions and arguments are those of the tests (tests/pattern_cases.py), in double precision, with positive counts and away
from ties. Every derivative is that of the outputs, added with random weights, along a random direction of one argument.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

STEP = 1e-6
MARK = "<!-- table -->"


def rows() -> list[dict]:
    from pattern_cases import CASES, arguments, derivatives

    found = []
    for name, case in CASES.items():
        if case.flat:
            found.append({"function": name, "no_gradient": case.flat})
            continue
        given = arguments(case, np.random.default_rng(0))
        paths, tree = jax.tree_util.tree_flatten_with_path(given)
        leaves = [leaf for _, leaf in paths]
        both = derivatives(case, leaves, tree, STEP, np.random.default_rng(1))
        for i, (exact, difference) in both.items():
            size = max(abs(exact), abs(difference))
            found.append(
                {
                    "function": name,
                    "argument": argument_name(paths[i][0]),
                    "AD": exact,
                    "FD": difference,
                    "relative": abs(exact - difference) / size if size else 0.0,
                }
            )
            print(json.dumps(found[-1]), flush=True)
    return found


def argument_name(path: tuple) -> str:
    number = path[0].idx
    return "pattern" if number == 0 else f"{number}{jax.tree_util.keystr(path[1:])}"


def table(found: list[dict]) -> str:
    lines = [
        "| function | argument | AD | FD | relative difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in found:
        if "no_gradient" in row:
            lines.append(f"| {row['function']} | | | | none: {row['no_gradient']} |")
        else:
            lines.append(
                f"| {row['function']} | {row['argument']} | {row['AD']:.6g} | {row['FD']:.6g} | "
                f"{row['relative']:.1e} |"
            )
    return "\n".join(lines)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    found = rows()
    (HERE / "result.json").write_text(json.dumps(found, indent=1) + "\n")
    readme = HERE / "README.md"
    head = readme.read_text().split(MARK)[0]
    readme.write_text(f"{head}{MARK}\n{table(found)}\n")


if __name__ == "__main__":
    main()
