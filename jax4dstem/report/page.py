"""The HTML page: sections of figures and tables, embedded in one file."""

import base64
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jax4dstem.errors import InputError, OutputError
from jax4dstem.fields import Tree
from jax4dstem.io.results import write_bytes
from jax4dstem.patterns.cepstrum import find_cepstrum_peaks
from jax4dstem.pipeline.results import RESULTS, read_results
from jax4dstem.report import figures, latent_figures, strain_figures
from jax4dstem.report.style import cluster_color

Section = tuple[str, str, str, str, Callable[[Tree, dict[str, Any]], Figure | None]]

# Title, file name, group of the results it needs, caption, figure; a later stage adds a line.
DOMAIN_SECTIONS: list[Section] = [
    ("Domains", "domain_map", "labels", "The domain with the largest share of every position; where another has a significant share, how much.", figures.domain_map),
]  # fmt: skip
STRAIN_SECTIONS: list[Section] = [
    ("Strain, pooled", "strain_pooled", "strain", "Averaged over neighbors that agree within their errors; top row, values; middle, one standard deviation; gray, no lattice.", partial(strain_figures.strain_maps, method="pooled")),
    ("Strain, position by position", "strain_lattice", "strain", "Each pattern on its own, by maximum likelihood.", partial(strain_figures.strain_maps, method="lattice")),
    ("Strain, by base lattices", "strain_by_bases", "strain", "Each pattern in the light of all patterns of its kind, near or far.", partial(strain_figures.strain_maps, method="bases")),
    ("Several lattices", "strain_lattices", "strain", "Which lattice every position shows; strain is relative to each lattice's own reference. Errors are those of the medians, without the calibration's.", strain_figures.lattice_map),
    ("Crystals on top of each other", "strain_second_amount", "strain", "Share of the diffraction that is of the weaker of two crystals under the probe, where there are two.", strain_figures.second_amounts),
    ("Strain of the second crystal", "strain_second", "strain", "The weaker of two crystals on top of each other; the stronger one is in the maps above.", partial(strain_figures.strain_maps, method="second")),
    ("Base lattices", "strain_bases", "strain", "Lattices that many patterns share, learned from all fits of the scan.", strain_figures.base_maps),
    ("The ways compared", "strain_consensus", "strain", "The lattice fit, its pooled map, the base lattices and the cepstrum; differences in units of the larger error bar.", strain_figures.consensus),
    ("Derived from strain", "strain_derived", "strain", "", strain_figures.derived_maps),
    ("Evidence for the lattice", "strain_status", "strain", "", strain_figures.status_map),
]  # fmt: skip
LATENT_SECTIONS: list[Section] = [
    ("Learned representation, autoencoder", "latent_ae", "latent", "One model per region; clusters of its codes, held-out losses, and what it does not understand.", partial(latent_figures.latent_maps, model="ae")),
    ("Learned representation, variational", "latent_vae", "latent", "The same with a prior on the codes.", partial(latent_figures.latent_maps, model="vae")),
]  # fmt: skip
DETAIL_SECTIONS: list[Section] = [
    ("Clusters", "label_maps", "labels", "A finer division, level by level; a cluster that is not divided keeps its number and color.", figures.label_maps),
    ("Virtual images", "virtual_images", "images", "Sums over detector regions that follow the direct beam.", figures.virtual_images),
    ("Direct beam", "descan", "descan", "Where the direct beam is, and what a smooth surface leaves.", figures.descan),
    ("Features", "std_map", "features", "Feature pixels are those that vary most between the dashed circles.", figures.std_map),
    ("Two clusterings compared", "comparison", "comparison", "Level 1 found by another method as well, in matching colors; black, outliers. Where they disagree the answer depends on the method.", figures.comparison),
    ("Principal components", "scree", "pca", "", figures.scree),
    ("Embedding", "embedding", "embedding", "A picture of the feature space; one point per position.", figures.embedding),
    ("Number of clusters", "split_curves", "splits", "The coarser of elbow and best silhouette is taken, if its silhouette is above that of noise (dashed).", figures.split_curves),
]  # fmt: skip


def write_report(out: str | Path) -> Path:
    """Draw the figures and the page of a results directory.

    Args:
        out: Directory with results.h5.

    Returns:
        The path of report.html; the figures lie in ``figures/`` beside it.

    Raises:
        InputError: There is no results file.
        OutputError: The report cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jax4dstem import Dataset
        >>> from jax4dstem.pipeline import STAGES, analyze_dataset
        >>> counts = np.random.default_rng(0).poisson(1.0, (3, 4, 32, 32))
        >>> counts[:, :, 14:18, 13:17] += 50
        >>> scan = Dataset.from_array(counts)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     path = analyze_dataset(scan, out, say=lambda line: None, stages=STAGES[:3])
        ...     write_report(out).name
        'report.html'
    """
    out = Path(out)
    if not (out / RESULTS).is_file():
        raise InputError(f"there is no {RESULTS} in {out}; run jax4dstem analyze first")
    done, about = read_results(out / RESULTS)
    try:
        folder = out / "figures"
        folder.mkdir(exist_ok=True)
        for stale in folder.glob("*.png"):  # of results that are there no more
            stale.unlink()
        if "labels" in done:
            _save(figures.overview(done, about), folder / "overview.png")
        sections = [
            {"title": title, "caption": caption, "image": image}
            for title, name, needs, caption, draw in _all_sections(done)
            if needs in done and (image := _save(draw(done, about), folder / f"{name}.png"))
        ]
    except OSError as error:
        raise OutputError(f"cannot write the report to {out}: {error.strerror}") from error
    page = _render(done, about, sections)
    write_bytes(out / "report.html", page.encode())
    return out / "report.html"


def _all_sections(done: Tree) -> list[Section]:
    def of(division: str) -> Section:
        return (
            "Patterns of the domains"
            if division == "domains"
            else f"Clusters of {division.replace('_', ' ')}",
            f"clusters_{division}",
            "clusters",
            "Titles give the number of positions.",
            lambda done, about: figures.mean_patterns(done, about, division),
        )

    names = figures.divisions(done)
    domains = [of(name) for name in names if name == "domains"]
    levels = [of(name) for name in names if name != "domains"]
    # Clusters lie below the domains; where there is no domain map they are what there is.
    first, last = DETAIL_SECTIONS[:1] + levels, DETAIL_SECTIONS[1:]
    above, below = (domains, first) if domains else (first, [])
    return [*DOMAIN_SECTIONS, *above, *STRAIN_SECTIONS, *LATENT_SECTIONS, *below, *last]


def _save(figure: Figure | None, path: Path) -> str:
    """Write a figure as PNG and return it as base64; empty for no figure."""
    if figure is None:
        return ""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    path.write_bytes(buffer.getvalue())
    return base64.b64encode(buffer.getvalue()).decode()


def _render(done: Tree, about: dict[str, Any], sections: list[dict[str, str]]) -> str:
    environment = Environment(loader=PackageLoader("jax4dstem.report"), autoescape=True)
    return environment.get_template("page.html.j2").render(
        name=Path(str(about["input_path"])).name,
        about={key: _plain(value) for key, value in about.items()},
        summary=_summary(done, about),
        warnings=_warnings(done),
        doubts=_doubts(done),
        sections=sections,
        tables=[_cluster_table(done, about, name) for name in figures.divisions(done)],
    )


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _summary(done: Tree, about: dict[str, Any]) -> list[str]:
    """What was found, in sentences."""
    lines = _domain_summary(done)
    for name in figures.divisions(done):
        if name == "domains":
            continue
        group = done["clusters"][name]
        stability = float(group["stability"].data)
        text = f"{figures.title_of(name)}: {len(group['ids'].data)} clusters"
        if not np.isnan(stability):
            text += f", found again by other seeds with an adjusted Rand index of {stability:.2f}"
        lines.append(text + ".")
    lines.extend(_strain_summary(done))
    center = done["center"].data
    drift = np.ptp(center.reshape(-1, 2), axis=0)
    lines.append(
        f"The direct beam has a radius of {float(done['beam']['radius'].data):.1f} px and moves by "
        f"{drift[0]:.1f} px (y) and {drift[1]:.1f} px (x) over the scan."
    )
    return lines


def _domain_summary(done: Tree) -> list[str]:
    """How many domains there are, by what they are told, and how sure; nothing in older results."""
    if "domains" not in figures.divisions(done):
        return []
    found, labels = done["domains"], done["labels"]
    number = len(np.unique(labels["domains"].data[labels["domains"].data >= 0]))
    tried = ", ".join(
        f"{kind} {count}" + (f" (silhouette {clear:.2f})" if np.isfinite(clear) else "")
        for kind, count, clear in zip(
            *(found[name].data.tolist() for name in ("kinds", "number", "clarity")), strict=True
        )
    )
    sure = 100 * float(np.nanmean(labels["confidence"].data > 0.95))
    return [
        f"{number} domain{'s' * (number != 1)}, told by the features {found['kind'].data!s} (domains by each: {tried}); "
        f"{sure:.1f} % of the positions are sure to 95 %, {100 * float((labels['second'].data >= 0).mean()):.1f} % show two domains."
    ]


def _strain_summary(done: Tree) -> list[str]:
    strain = done.get("strain", {})
    if "reason" in strain:
        return [f"Strain was not measured: {strain['reason'].data}."]
    if "lattice" not in strain:
        return []
    lattice, pooled = strain["lattice"], strain["pooled"]
    ok = lattice["status"].data == 0
    if not ok.any():
        return ["No position shows the lattice: there is no strain."]
    error = 100 * float(np.nanmedian(lattice["e_xx_std"].data))
    pool = 100 * float(np.nanmedian(pooled["e_xx_std"].data))
    number = float(np.nanmedian(pooled["n_pooled"].data))
    (y1, x1), (y2, x2) = lattice["reference"].data
    several = len(strain["lattices"]["a"].data) if "lattices" in strain else 1
    shown = "the lattice" if several == 1 else f"one of {several} lattices"
    return [
        f"{100 * ok.mean():.1f} % of the positions show {shown}. One pattern gives e_xx to "
        f"± {error:.2g} % (one standard deviation), pooling {number:.0f} patterns (median) to ± {pool:.2g} %.",
        f"Strain is relative to g1 = ({y1:.2f}, {x1:.2f}), g2 = ({y2:.2f}, {x2:.2f}) px (y, x): "
        f"{lattice['reference_source'].data}"
        + (
            ", where the first lattice is; the others have references of their own."
            if several > 1
            else "."
        ),
    ]


def _warnings(done: Tree) -> list[str]:
    counts = {
        "patterns are blank or have NaN or infinite pixels and were excluded": (done["invalid"].data > 0).sum(),
        "detector pixels are hot or dead and were replaced by their neighbors": done["detector"]["bad_pixels"].data.sum(),
        "positions have a direct beam far from their neighbors', whose center was used": done["descan"]["outlier"].data.sum(),
    }  # fmt: skip
    return [f"{count} {what}" for what, count in counts.items() if count]


def _doubts(done: Tree) -> list[dict[str, str]]:
    """What is doubtful, what was assumed, and how to overrule it; nothing in results of an earlier version."""
    columns = {
        name: done["health"][name].data for name in ("subject", "text", "assumed", "remedy")
    } if "health" in done else {}  # fmt: skip
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _cluster_table(done: Tree, about: dict[str, Any], division: str) -> dict[str, Any]:
    group = done["clusters"][division]
    total = done["labels"][division].data.size
    shape = figures.cepstrum_shape(group)
    rows = []
    states, relations = (group[key].data.tolist() for key in ("state", "relation"))
    for n, cluster in enumerate(group["ids"].data):
        lengths = np.linalg.norm(group["basis"].data[n], axis=1)
        half = group["mean_cepstrum"].data[n]
        peaks = []
        if states[n] != "amorphous":
            peaks = find_cepstrum_peaks(
                half, shape, figures.calibration(about), inner=min(shape) / 30
            )
        color = "#" + "".join(f"{round(255 * c):02x}" for c in cluster_color(int(cluster)))
        parent = int(group["parent"].data[n])
        rows.append(
            {
                "id": int(cluster),
                "color": color,
                "parent": "whole scan" if parent < 0 else parent,
                "size": int(group["size"].data[n]),
                "share": f"{100 * group['size'].data[n] / total:.1f} %",
                "state": states[n],
                "crystallinity": f"{group['crystallinity'].data[n]:.1f}",
                "lattice": f"{lengths[0]:.2f} x {lengths[1]:.2f}"
                if np.isfinite(lengths).all()
                else "",
                "relation": "" if relations[n] == states[n] else relations[n],
                "spacings": ", ".join(f"{peak.length:.2f}" for peak in peaks[:4]) or "none",
            }
        )
    return {
        "title": figures.title_of(division),
        "rows": rows,
        "unit": figures.calibration(about).quefrency_step(1)[1],
    }
