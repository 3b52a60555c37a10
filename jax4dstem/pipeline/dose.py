"""`dose`: how many electrons strain needs, from the results of one scan and its file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jax4dstem.beam import prepare_patterns
from jax4dstem.dataset import Dataset
from jax4dstem.domains import DomainDose, predict_domain_dose
from jax4dstem.errors import InputError
from jax4dstem.pipeline.input import input_of
from jax4dstem.pipeline.recipe import parse_recipe
from jax4dstem.pipeline.results import Results, open_results
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.strain import StrainAnswers, StrainDose, predict_dose

RARE = 0.05  # of the positions: what is lost there is not lost elsewhere


class DoseOfScan(NamedTuple):
    """What a scan tells of other doses; None where its results hold no strain, or no domains."""

    strain: StrainDose | None
    domains: DomainDose | None


def dose_of_results(
    out: str | Path, wanted: float = 1e-3, say: Callable[[str], Any] = print
) -> DoseOfScan:
    """Tell at which dose strain reaches an error, and where lattices are lost and domains confused.

    Args:
        out: Directory with results that contain strain of single positions, or domains; their input file is read again.
        wanted: Standard deviation of strain.
        say: Receives the lines of the answer.

    Returns:
        Errors and confused domains by dose.

    Raises:
        InputError: There is neither, strain is that of sums of patterns, or the file is not there or another.
    """
    results = open_results(out)
    strain, survey, beam = results.strain, results.survey, results.beam
    measured = strain if isinstance(strain, StrainAnswers) else None
    if survey is None or beam is None or (measured is None and results.domains is None):
        raise InputError(
            f"{out} holds neither strain nor domains: run `jax4dstem analyze FILE -o {out}` first"
        )
    recipe = parse_recipe(results.about["recipe"])
    scan = _input_of(results, recipe, Path(out))
    say(f"scan      {_electrons(float(np.nanmedian(survey.dose)))} electrons per pattern")
    errors = confused = None
    if results.domains is not None:
        prepared = prepare_patterns(scan, survey, beam, bin=recipe.prepare.bin)
        noise = survey.detector.of_electrons.noise
        confused = predict_domain_dose(prepared, results.domains, noise)
        say(domains_in_words(confused))
    if measured is not None:
        errors = predict_dose(survey.electrons(scan), measured, beam.center)
        for line in strain_in_words(errors, wanted):
            say(line)
    return DoseOfScan(errors, confused)


def _input_of(results: Results, recipe: Recipe, out: Path) -> Dataset:
    """The scan that results were made from, if single patterns of it have strain."""
    if recipe.strain.bin > 1:
        raise InputError(
            f"the strain in {out} is that of sums of {recipe.strain.bin} x {recipe.strain.bin} patterns; "
            "a dose is told from single ones: strain.bin = 1"
        )
    if results.about["input_path"] == "memory":
        raise InputError(f"the scan of {out} was in memory; use jax4dstem.strain.predict_dose")
    return input_of(results)


def strain_in_words(found: StrainDose, wanted: float) -> list[str]:
    """Lines on errors and lost lattices, and a table.

    Args:
        found: Errors by dose.
        wanted: Standard deviation of strain.

    Returns:
        The lines.
    """
    single, pooled = found.needed(wanted), found.needed(wanted, pooled=True)
    lines = [
        f"strain    an error of {wanted:g}: one pattern {_from(single)}, pooled {_from(pooled)}",
        f"lattice   lost at {RARE:.0%} of the positions {_below(found.lost(1 - RARE), found)}, "
        f"at half of them {_below(found.lost(), found)}",
        "",
        " electrons   e_xx       e_yy       e_xy       theta      pooled     lattice",
    ]
    for row in range(len(found.dose)):
        if found.kept[row]:
            errors = [*found.error[row], found.pooled[row, :3].max()]
            numbers = "  ".join(f"{value:9.2e}" for value in errors)
            lines.append(f"{_electrons(found.dose[row]):>10}  {numbers}  {found.kept[row]:6.1%}")
    return lines


def domains_in_words(found: DomainDose) -> str:
    """A line on the pair of domains that is confused first.

    Args:
        found: By domain.

    Returns:
        The line.
    """
    if not (found.rival >= 0).any():
        return "domains   there are no two to compare"
    worst = int(np.nanargmax(found.needed))
    pair = f"{RARE:.0%} of domain {found.ids[worst]} are taken for domain {found.rival[worst]}"
    if np.isinf(found.needed[worst]):
        return f"domains   {pair} at any dose: they differ less than their own patterns do"
    return (
        f"domains   {pair} below {_electrons(found.needed[worst])} electrons, of the others fewer"
    )


def _from(dose: float) -> str:
    if np.isinf(dose):
        return "not at any dose up to the largest below"
    return f"from {_electrons(dose)} electrons per pattern on"


def _below(dose: float, found: StrainDose) -> str:
    if np.isinf(dose):
        return "at every dose"
    return (
        f"below {_electrons(dose)} electrons"
        if dose
        else f"at no dose from {_electrons(found.dose[0])} electrons on"
    )


def _electrons(dose: float) -> str:
    """Two digits are known."""
    return f"{float(f'{dose:.2g}'):,.0f}" if np.isfinite(dose) else "any number of"
