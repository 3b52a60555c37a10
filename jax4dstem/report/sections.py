"""The sections of the page, in the order in which they are told, and what stands in each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from jax4dstem import plots
from jax4dstem.pipeline.results import Results
from jax4dstem.plots.colors import divisions
from jax4dstem.plots.domains import MOST_DRAWN, title_of
from jax4dstem.report.tables import Table, division_table, lattice_table, time_table


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        name: Of its file in ``figures/``.
        caption: How it is to be read.
        draw: From results to the figure.
    """

    name: str
    caption: str
    draw: Callable[[Results], Figure]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: What links point to.
        title: Above it.
        parts: Figures and tables.
        text: Below the title.
        folded: Closed until somebody opens it.
    """

    anchor: str
    title: str
    parts: list[Picture | Table]
    text: str = ""
    folded: bool = False


def sections_of(results: Results) -> list[Section]:
    """All sections; of figures that the results have nothing of none is drawn, and sections without any are left out."""
    levels_only = "domains" not in divisions(results.fields())  # of an older version
    return [
        Section("images", "Images", [
            Picture("virtual_images", "Sums over detector regions that follow the direct beam, and how far the center of mass is from it.", plots.virtual_images),
        ]),
        Section("domains", "Domains", list(_domains(results)), _about_colors(results)),
        Section("patterns", "Mean patterns", list(_patterns(results))),
        Section("strain", "Strain", list(_strain(results)), _about_strain(results)),
        Section("trust", "What can be trusted", list(_trust(results))),
        Section("levels", "Finer clusters, level by level", list(_levels(results)), folded=not levels_only),
        Section("features", "Features and embedding", [
            Picture("feature_map", "Feature pixels are those that vary most between the dashed circles.", plots.feature_map),
            Picture("principal_components", "", plots.principal_components),
            Picture("embedding", "A picture of the feature space: one point per position. Distances between far groups mean little.", plots.embedding),
        ], folded=True),
        Section("learned", "Learned representations", [
            Picture(f"learned_{model}", "One model per region: clusters of its codes, held-out losses, and what it does not understand.", partial(plots.learned_codes, model=model))
            for model in ("ae", "vae")
        ], folded=True),
        Section("ways", "Further maps of strain", list(_ways(results)), folded=True),
        Section("beam", "Direct beam", [
            Picture("direct_beam", "Where the direct beam is, the smooth surface through it (descan), and what that leaves.", plots.direct_beam),
        ], folded=True),
        Section("times", "Times", [table for table in (time_table(results),) if table is not None], folded=True),
    ]  # fmt: skip


def _domains(results: Results) -> Iterator[Picture | Table]:
    yield Picture(
        "domain_map",
        "The domain with the largest share of every position; the probability that no other domain has a larger share; and how "
        "much of a position is of a second domain, where that is significant.",
        plots.domain_map,
    )
    table = division_table(results, "domains")
    if table is not None:
        yield table


def _about_colors(results: Results) -> str:
    tree = results.fields()
    names = divisions(tree)
    most = max((len(tree["clusters"][n]["ids"].data) for n in names if n in tree.get("clusters", {})), default=0)  # fmt: skip
    if most <= plots.label_count():
        return ""
    return (
        f"There are more parts than the {plots.label_count()} colors that can be told apart: further colors are like others; "
        "their numbers are in the tables."
    )


def _patterns(results: Results) -> Iterator[Picture | Table]:
    """Of the domains; where there is no domain map, of the first level."""
    names = divisions(results.fields())
    if not names:
        return
    yield Picture(
        f"patterns_{names[0]}",
        f"Top: mean pattern, logarithmic. Bottom: mean cepstrum, whose peaks lie at the spacings of the lattice. Frames have the "
        f"colors of the map; of more than {MOST_DRAWN} the largest are shown.",
        partial(plots.domain_patterns, division=names[0]),
    )


def _strain(results: Results) -> Iterator[Picture | Table]:
    yield Picture(
        "lattice_overlay",
        "A typical pattern (its fit and error bar are ordinary): as it was counted; with the fitted disks and g1, g2; and what the "
        "fit leaves, in units of the noise: structure there is what the model does not know. χ² counts the pixels around the diffracted disks.",
        plots.lattice_overlay,
    )
    table = lattice_table(results)
    if table is not None:
        yield table
        if len(table.colors) > 1:
            yield Picture(
                "lattice_map",
                "Strain is relative to each lattice's own reference. Errors are those of the medians, without the calibration's.",
                plots.lattice_map,
            )
    yield Picture(
        "strain_pooled",
        "Averaged over neighbors that agree within their errors. Below each map its histogram, in the colors of the map, with the "
        "median as a line; the outermost bars hold all that is beyond. Gray: no strain.",
        partial(plots.strain_map, way="pooled"),
    )
    yield Picture(
        "second_crystal",
        "Where two crystals lie under the probe: the share of the diffraction that is of the weaker one.",
        plots.second_crystal,
    )
    yield Picture(
        "strain_second",
        "Strain of the weaker crystal; that of the stronger one is above.",
        partial(plots.strain_map, way="second"),
    )


def _about_strain(results: Results) -> str:
    if "e_xx" not in results.fields().get("strain", {}).get("lattice", {}):
        return ""
    return (
        "Of the lattice in real space, tension positive; x to the right, y down; rotation counter-clockwise on the screen, modulo "
        "the lattice's symmetry."
    )


def _trust(results: Results) -> Iterator[Picture | Table]:
    yield Picture(
        "strain_errors",
        "One standard deviation of the pooled maps.",
        partial(plots.strain_errors, way="pooled"),
    )
    yield Picture(
        "strain_status",
        "χ² per pixel is 1 where the counts scatter about the fit as their noise does, and 2 where what the model does not know "
        "is as large as the noise: disks of another shape, a second crystal, structure inside disks. Error bars are widened by it.",
        plots.strain_status,
    )
    yield Picture(
        "pattern_examples",
        "The pattern with the smallest and the one with the largest χ², one at a boundary, one of two crystals (the second is circled in what the "
        "fit of the first leaves), and the brightest without strain; those that there are.",
        plots.pattern_examples,
    )
    yield Picture(
        "strain_consensus",
        "The same strain in other ways, and the differences in units of the larger error bar: beyond 3 one of the two is wrong.",
        plots.strain_consensus,
    )


def _levels(results: Results) -> Iterator[Picture | Table]:
    yield Picture(
        "level_maps",
        "A cluster that is a domain over again has its color, others look like what they are parts of. One that is not divided "
        "keeps number and color.",
        plots.level_maps,
    )
    for name in divisions(results.fields()):
        if name == "domains":
            continue
        yield Picture(
            f"patterns_{name}",
            f"{title_of(name)}: mean patterns and mean cepstra.",
            partial(plots.domain_patterns, division=name),
        )
        table = division_table(results, name)
        if table is not None:
            yield table
    yield Picture(
        "clusterings_compared",
        "Level 1 found by another method as well. Where they disagree the answer depends on the method.",
        plots.clusterings_compared,
    )
    yield Picture(
        "split_curves",
        "The coarser of elbow and best silhouette is taken, if its silhouette is above that of noise (dashed).",
        plots.split_curves,
    )


def _ways(results: Results) -> Iterator[Picture | Table]:
    yield Picture(
        "strain_lattice",
        "Each pattern on its own, by maximum likelihood.",
        partial(plots.strain_map, way="lattice"),
    )
    yield Picture(
        "strain_derived",
        "What follows from the pooled strain. Curvature and Burgers density are changes of rotation and strain along the scan.",
        plots.strain_derived,
    )
    yield Picture(
        "strain_by_bases",
        "Each pattern in the light of all patterns of its kind, near or far.",
        partial(plots.strain_map, way="bases"),
    )
    yield Picture(
        "base_lattices",
        "Lattices that many patterns share, learned from all fits of the scan.",
        plots.base_lattices,
    )
