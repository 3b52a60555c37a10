"""What is on a drawn figure: its texts as they are drawn, where they lie, what is behind them."""

from contextlib import contextmanager
from itertools import combinations
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from jax4dstem.plots.lab import color_difference, contrast

SMALLEST = 11.0  # px at 100 %
CONTRAST = 4.5  # Web Content Accessibility Guidelines, AA
APART = 15.0  # CIEDE2000
PX_PER_INCH = 100


class DrawnText(NamedTuple):
    words: str
    px: float
    color: tuple
    box: tuple  # left, bottom, right, top in px
    artist: object


@contextmanager
def _recorded(found):
    draw = Text.draw

    def record(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            found[id(self)] = (self, self.get_fontsize(), to_rgb(self.get_color()))
        draw(self, renderer, *args, **kwargs)

    Text.draw = record
    try:
        yield
    finally:
        Text.draw = draw


def texts_of(figure):
    """All texts that are drawn, where a saved figure has them; from then on its layout stays."""
    found = {}
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(PX_PER_INCH)
    # As savefig does: laid out again it may move, and have other ticks then.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    with _recorded(found):
        canvas.draw()
    renderer = canvas.get_renderer()
    return [
        DrawnText(
            artist.get_text(),
            points * PX_PER_INCH / 72,
            color,
            artist.get_window_extent(renderer).extents,
            artist,
        )
        for artist, points, color in found.values()
    ]


def faults_of(figure):
    """What is wrong with a figure, in words."""
    texts = texts_of(figure)
    width, height = figure.get_size_inches() * PX_PER_INCH
    faults = [f"{t.words!r} has {t.px:.1f} px" for t in texts if t.px < SMALLEST]
    faults += [
        f"{t.words!r} leaves the figure: {np.round(t.box)} of {width:.0f} x {height:.0f}"
        for t in texts
        if t.box[0] < -1 or t.box[1] < -1 or t.box[2] > width + 1 or t.box[3] > height + 1
    ]
    faults += [
        f"{a.words!r} overlaps {b.words!r}" for a, b in combinations(texts, 2) if _overlap(a, b)
    ]
    faults += [f"{t.words!r} lies under other axes" for t in texts if _is_under_others(figure, t)]
    faults += [
        f"{t.words!r} has a contrast of {c:.1f}"
        for t, c in _contrasts(figure, texts)
        if c < CONTRAST
    ]
    return faults + _alike(figure)


def _overlap(a, b):
    return _share(a.box, b.box)


def _share(first, second):
    left, bottom = np.maximum(first[:2], second[:2])
    right, top = np.minimum(first[2:], second[2:])
    return right - left > 1 and top - bottom > 1


def _is_under_others(figure, text):
    """Whether axes that are not the text's own, nor beside them on the same place, cover some of it."""
    own = text.artist.axes
    every = [axes for each in figure.axes for axes in (each, *each.child_axes)]
    return own is not None and any(
        _share(text.box, axes.get_window_extent().extents)
        for axes in every
        if axes is not own
        and not _share(axes.get_window_extent().extents, own.get_window_extent().extents)
    )


def _contrasts(figure, texts):
    """Each text against what is behind it: the contrast that 95 % of those pixels reach."""
    before = [text.artist.get_alpha() for text in texts]
    for text in texts:
        text.artist.set_alpha(0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255
    for text, alpha in zip(texts, before, strict=True):
        text.artist.set_alpha(alpha)
    for text in texts:
        left, bottom, right, top = np.round(text.box).astype(int)
        behind = image[max(bottom, 0) : top, max(left, 0) : right].reshape(-1, 3)
        if len(behind):
            yield text, float(np.percentile(contrast(np.array(text.color), behind), 5))


def _alike(figure):
    """Entries of one legend that look alike."""
    faults = []
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is None:
            continue
        shown = [
            (label.get_text(), np.array(to_rgb(handle.get_color())))
            for label, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
            if handle.get_marker() not in ("", "None", None)
        ]
        faults += [
            f"{a!r} looks like {b!r}"
            for (a, first), (b, second) in combinations(shown, 2)
            if color_difference(first, second) < APART - 0.1  # colors have 8 bits
        ]
    return faults
