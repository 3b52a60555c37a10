"""Colors of labels: no two of one picture look alike, and parts look like what they are parts of."""

from collections.abc import Mapping
from functools import cache, lru_cache

import numpy as np
from matplotlib.colors import to_rgb

from jax4dstem.fields import Tree, find
from jax4dstem.pipeline.results import Results
from jax4dstem.plots.lab import lab, lab_difference
from jax4dstem.plots.style import LEFT_OUT

Color = tuple[float, float, float]

APART = 15.0  # CIEDE2000 between any two labels: told apart without seeing them side by side
# After Paul Tol's bright scheme: distinct also with impaired color vision.
FIRST = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")
NONE: Color = (0.0, 0.0, 0.0)  # outliers, and positions without a label
WHITE: Color = (1.0, 1.0, 1.0)  # of the page
GRID = 18  # values of each of red, green and blue that are looked through
DARKEST, LIGHTEST = 28, 92  # L*: neither black nor white, nor what looks like them in small areas
SAME = 0.5  # common share of both, above which a cluster is a domain over again


def label_color(label: int) -> Color:
    """Color of a label that stands for itself; those of `label_count` labels are all told apart, then they repeat.

    Args:
        label: Its number; negative for none.

    Returns:
        Red, green and blue, 0 to 1.

    Example:
        >>> label_color(-1), label_color(0) == label_color(1), label_color(0) == label_color(label_count())
        ((0.0, 0.0, 0.0), False, True)
    """
    return NONE if label < 0 else _palette()[label % label_count()]


def label_count() -> int:
    """How many labels have colors that differ by a CIEDE2000 of 15 or more from each other, black and white.

    Returns:
        The number.

    Example:
        >>> label_count() > 40
        True
    """
    return len(_palette())


def label_image(
    labels: np.ndarray,
    colors: Mapping[int, Color] | None = None,
    left_out: np.ndarray | None = None,
) -> np.ndarray:
    """Labels as an image.

    Args:
        labels: ``(scan_y, scan_x)``; negative for none.
        colors: By label, as of `division_colors`; None takes `label_color`.
        left_out: Positions that nothing counts, which are white; None for none.

    Returns:
        Red, green and blue, ``(scan_y, scan_x, 3)``.

    Example:
        >>> label_image(np.array([[0, 1, -1]])).shape
        (1, 3, 3)
    """
    image = np.zeros((*labels.shape, 3))
    for label in np.unique(labels).tolist():
        image[labels == label] = (colors or {}).get(label, label_color(label))
    if left_out is not None:
        image[left_out] = to_rgb(LEFT_OUT)
    return image


def division_colors(results: Results) -> dict[str, dict[int, Color]]:
    """Colors of the domains, and of the clusters of every level.

    A cluster that is a domain over again has its color, another one looks like the domain that it lies in, and its parts
    look like it: of all colors that differ enough from those taken, the nearest one. So no two of a map are alike, up to the
    number that colors can tell apart; further ones are as far from the others as can be, and the numbers tell.

    Args:
        results: Of a run.

    Returns:
        Red, green and blue by label, by ``domains``, ``level_1``, ...

    Example:
        >>> division_colors(Results())
        {}
    """
    tree = results.fields()
    found: dict[str, dict[int, Color]] = {}
    taken: list[Color] = []
    for name in divisions(tree):
        labels = tree["labels"][name].data
        own = {label: _own_color(tree, found, name, label, taken) for label in _ids(labels)}
        found[name] = {-1: NONE} | own
    return found


def divisions(tree: Tree) -> list[str]:
    """Names of the domain map, where there is one, and of the levels of the clustering, coarsest first."""
    labels = tree.get("labels", {})
    levels = [name for name in labels if name.startswith("level_")]
    return ["domains"] * ("domains" in labels) + sorted(levels, key=lambda name: int(name[6:]))


def shade_of(parent: Color | None, taken: list[Color]) -> Color:
    """The color nearest to a parent's of those that differ enough from all taken; without a parent, the most different one."""
    if not taken and parent is None:
        return to_rgb(FIRST[0])
    away = np.min([_away(one) for one in taken], axis=0)
    if parent is None or away.max() < APART:
        best = int(away.argmax())
    else:
        near = _away(parent)
        best = int(np.where(away >= APART, near, np.inf).argmin())
    red, green, blue = _candidates()[0][best].tolist()
    return red, green, blue


def _own_color(
    tree: Tree, found: dict[str, dict[int, Color]], division: str, label: int, taken: list[Color]
) -> Color:
    """The color of a label of a division; it is then taken."""
    earlier = next((c[label] for d, c in found.items() if d != "domains" and label in c), None)
    if division != "domains" and earlier is not None:  # a cluster that was not divided
        return earlier
    parent, same = _parent(tree, found, division, label)
    if same and parent is not None:
        return parent
    if division == "domains" and label < label_count():
        color = label_color(label)
    else:
        color = shade_of(parent, taken)
    taken.append(color)
    return color


def _parent(
    tree: Tree, found: dict[str, dict[int, Color]], division: str, label: int
) -> tuple[Color | None, bool]:
    """The color of what a label is a part of, and whether it is the whole of it."""
    parents = find(tree, "tree/parent")
    above = -1 if parents is None or division == "domains" else int(parents.data[label])
    if above >= 0:
        colors = (c[above] for d, c in found.items() if d != "domains" and above in c)
        return next(colors, None), False
    if division == "domains" or "domains" not in found:
        return None, False
    domains, own = tree["labels"]["domains"].data, tree["labels"][division].data == label
    inside = domains[own & (domains >= 0)]
    if not inside.size:
        return None, False
    home = int(np.bincount(inside).argmax())
    common = (inside == home).sum() / (own | (domains == home)).sum()
    return found["domains"][home], bool(common > SAME)


def _ids(labels: np.ndarray) -> list[int]:
    return [label for label in np.unique(labels).tolist() if label >= 0]


def _gap(where: np.ndarray, color: Color) -> np.ndarray:
    """Differences of colors in L*a*b*, ``(n, 3)``, from one color."""
    return np.asarray(lab_difference(where, lab(np.array(color))))


@lru_cache(512)  # figures of one report ask for the same ones again and again
def _away(color: Color) -> np.ndarray:
    """Differences of the candidates from one color."""
    return _gap(_candidates()[1], color)


@cache
def _candidates() -> tuple[np.ndarray, np.ndarray]:
    """Colors that differ enough from black and white, and where they lie in L*a*b*."""
    values = np.linspace(0, 1, GRID)
    colors = np.stack(np.meshgrid(values, values, values, indexing="ij"), axis=-1).reshape(-1, 3)
    where = lab(colors)
    ends = [_gap(where, end) for end in (NONE, WHITE)]
    seen = (np.min(ends, axis=0) >= APART) & (where[:, 0] > DARKEST) & (where[:, 0] < LIGHTEST)
    return colors[seen], where[seen]


@cache
def _palette() -> tuple[Color, ...]:
    """The first colors, then always the one that is most different from all before, as long as it differs enough."""
    found: list[Color] = [to_rgb(name) for name in FIRST]
    away = np.min([_away(one) for one in found], axis=0)
    while away.max() >= APART:
        best = int(away.argmax())
        red, green, blue = _candidates()[0][best].tolist()
        found.append((red, green, blue))
        away = np.minimum(away, _away(found[-1]))
    return tuple(found)
