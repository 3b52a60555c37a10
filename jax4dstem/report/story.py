"""What was found, in sentences."""

from collections.abc import Iterator

import numpy as np

from jax4dstem.domains import DomainMap
from jax4dstem.pipeline.results import Results
from jax4dstem.strain import NoStrain, StrainAnswers

SURE = 0.95  # probability of a domain
NO_BREAK = "\N{NO-BREAK SPACE}"
MOST_SHARES = 6  # domains whose shares are told
MOST_UNUSUAL = 5  # positions that are named
TOLD_BY = {
    "sums": "sums over disks",
    "cepstrum": "their cepstra",
    "angular": "correlations on rings, which do not see rotation",
    "angular_cepstrum": "cepstra on rings, which do not see rotation",
}


def sentences(results: Results) -> list[str]:
    """One paragraph: the scan, its domains, its lattices and strain, with errors."""
    told = [*_scan(results), *_domains(results), *_strain(results)]
    return [_kept_together(text) for text in told]


def _kept_together(text: str) -> str:
    """Numbers and their units do not part at the end of a line."""
    for apart in (" %", " Å", " = ", "± ", " ×", "× "):
        text = text.replace(apart, apart.replace(" ", NO_BREAK))
    return text


def _scan(results: Results) -> Iterator[str]:
    rows, cols = (int(n) for n in results.about["scan_shape"])
    height, width = (int(n) for n in results.about["detector_shape"])
    calibration = results.calibration
    text = f"The scan has {rows} × {cols} positions"
    if calibration.scan_step_nm is not None:
        (down, step), _ = calibration.scan_steps
        text += f" ({rows * down:.4g} × {cols * step:.4g} nm)"
    text += f" with patterns of {height} × {width} pixels"
    survey = results.survey
    if survey is not None:
        dose = float(np.median(survey.dose[survey.valid]))
        text += f" and {_count(dose)} electrons each"
        left_out = int((~survey.valid).sum())
        if left_out:
            text += f"; {left_out} positions are left out"
    yield text + "."


def _domains(results: Results) -> Iterator[str]:
    found = results.domain_map
    if found is None:
        return
    if len(found.size) < 2:
        yield "Nothing tells parts of it apart: it is one domain."
    else:
        yield _domain_sentence(found, ~results.left_out(found.labels.shape))
    if found.unusual is not None and found.unusual.any():
        yield _unusual_sentence(found.unusual, np.asarray(found.typicality))


def _domain_sentence(found: DomainMap, counted: np.ndarray) -> str:
    shares = [f"{100 * n / counted.sum():.1f} %" for n in found.size[:MOST_SHARES]]
    more = len(found.size) - len(shares)
    told = ", ".join(shares) + (f" and {more} smaller ones" if more else "")
    sure = 100 * float((found.confidence > SURE)[counted].mean())
    two = 100 * float((found.second >= 0)[counted].mean())
    return (
        f"It shows {len(found.size)} domains ({told} of the positions), told apart by {TOLD_BY.get(found.kind, found.kind)}; "
        f"{sure:.3g} % of the positions are assigned with a probability above {100 * SURE:.0f} %, "
        f"and {two:.2g} % show two domains at once."
    )


def _unusual_sentence(unusual: np.ndarray, typicality: np.ndarray) -> str:
    """The most unusual positions first."""
    where = np.argwhere(unusual)
    order = np.argsort(typicality[unusual], kind="stable")[:MOST_UNUSUAL]
    named = ", ".join(f"({y}, {x})" for y, x in where[order].tolist())
    more = ", ..." * (len(where) > MOST_UNUSUAL)
    one = len(where) == 1
    return (
        f"{len(where)} position{'' if one else 's'} {'is' if one else 'are'} unlike every domain "
        f"(one in twenty of such is by chance): row and column {named}{more}."
    )


def _strain(results: Results) -> Iterator[str]:
    found = results.strain
    if isinstance(found, NoStrain):
        yield f"Strain was not measured: {found.reason}."
    if not isinstance(found, StrainAnswers):
        return
    ok = found.strain.ok
    if not ok.any():
        yield "No position shows a lattice: there is no strain."
        return
    counted = ~results.left_out(ok.shape)
    yield _lattice_sentence(found, counted)
    yield _strain_sentence(found)
    one, pooled = (
        100 * float(np.nanmedian(each.std("e_xx"))) for each in (found.strain, found.pooled.strain)
    )
    number = float(np.nanmedian(found.pooled.n_pooled[ok]))
    yield (
        f"One pattern gives e_xx to ± {one:.2g} % (one standard deviation, median), pooling {number:.2g} patterns to ± {pooled:.2g} %."
    )
    if found.second is not None:
        yield f"At {_percent(found.second.there[counted])} of the positions a second crystal lies under the probe."


def _lattice_sentence(found: StrainAnswers, counted: np.ndarray) -> str:
    ok, table = found.strain.ok[counted], found.lattices
    if table is None:
        return f"{_percent(ok)} of the positions show a lattice."
    cells = [
        f"a = {a:.4g} {table.unit}, b = {b:.4g} {table.unit}, γ = {gamma:.1f}°"
        for a, b, gamma in zip(table.a, table.b, table.gamma, strict=True)
    ]
    if len(cells) == 1:
        return f"{_percent(ok)} of the positions show a lattice, {cells[0]}."
    parts = [f"{100 * s:.3g} % {cell}" for s, cell in zip(table.share, cells, strict=True)]
    return f"{_percent(ok)} of the positions show one of {len(cells)} lattices: {'; '.join(parts)}."


def _strain_sentence(found: StrainAnswers) -> str:
    strain = found.pooled.strain
    spans = []
    for name, words in (("e_xx", "along x"), ("e_yy", "along y")):
        low, high = 100 * np.nanpercentile(getattr(strain, name), [5, 95])
        spans.append(f"{words} from {_signed(low)} to {_signed(high)} %")
    low, high = np.degrees(np.nanpercentile(strain.theta, [5, 95]))
    spans.append(f"rotation from {_signed(low)} to {_signed(high)}°, counter-clockwise")
    return (
        f"Relative to its reference ({found.strain.reference_source}), strain of the middle 90 % of the positions is: "
        f"{'; '.join(spans)}."
    )


def _percent(where: np.ndarray) -> str:
    return f"{100 * float(where.mean()):.3g} %"


def _signed(value: float) -> str:
    """With a real minus and no more digits than are of use."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _count(value: float) -> str:
    """Of electrons, with three digits."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"
