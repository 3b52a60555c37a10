"""Small pictures for notebooks, as HTML."""

import base64
import html
import io
from collections.abc import Iterable

import numpy as np

BRIGHT = (
    99.9  # percentile of a pattern's pixels: a direct beam covers more than the thousandth above
)
SHOWN = 112  # px that the longer side of a picture has on the screen
FRAME = "border:none;padding:2px 8px 2px 0;text-align:left"


def pictures(patterns: np.ndarray, of: tuple[int, int]) -> dict[str, np.ndarray]:
    """A rough dark field and the mean of a few patterns, by title.

    The dark field counts all pixels but those of the mean pattern's bright part, above half of its brightest thousandth:
    no beam has to be looked for.

    Args:
        patterns: ``(scan_y, scan_x, det_y, det_x)``; what is not finite counts nothing.
        of: Shape of the scan that they are from.

    Returns:
        Images between 0 and 1: ``(scan_y, scan_x)`` and ``(det_y, det_x)``, the latter logarithmic.

    Example:
        >>> {title: image.shape for title, image in pictures(np.ones((2, 3, 8, 9)), (4, 3)).items()}
        {'dark field (2 x 3 of 4 x 3)': (2, 3), 'mean of these': (8, 9)}
    """
    counts = np.where(np.isfinite(patterns), patterns, 0).astype(np.float32)
    mean = counts.mean((0, 1))
    dark = mean < np.percentile(mean, BRIGHT) / 2
    height, width = patterns.shape[:2]
    part = "" if (height, width) == of else f" ({height} x {width} of {of[0]} x {of[1]})"
    return {
        f"dark field{part}": _stretched((counts * dark).sum((2, 3))),
        "mean of these": _stretched(np.log1p(np.maximum(mean - mean.min(), 0))),
    }


def _stretched(image: np.ndarray) -> np.ndarray:
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low or 1.0)


def png(image: np.ndarray) -> bytes:
    """A grayscale PNG.

    Args:
        image: Between 0 and 1, ``(y, x)``.

    Returns:
        The file.

    Example:
        >>> png(np.zeros((2, 3)))[1:4]
        b'PNG'
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.clip(255 * image + 0.5, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def html_of(rows: Iterable[tuple[str, str]], shown: dict[str, np.ndarray] | None = None) -> str:
    """A table of two columns, with pictures beside it.

    Args:
        rows: Name and text of each row; the first is the title.
        shown: Images between 0 and 1 by title.

    Returns:
        HTML that stands for itself.

    Example:
        >>> "<b>Dataset</b>" in html_of([("Dataset", "scan.h5")])
        True
    """
    (kind, name), *others = [(html.escape(a), html.escape(b)) for a, b in rows]
    cells = "".join(
        f"<tr><th style='{FRAME};font-weight:normal;opacity:.7'>{title}</th><td style='{FRAME}'>{text}</td></tr>"
        for title, text in others
    )
    images = "".join(_figure(title, image) for title, image in (shown or {}).items())
    return (
        f"<div style='display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start'><table style='margin:0'>"
        f"<tr><td colspan=2 style='{FRAME}'><b>{kind}</b> {name}</td></tr>{cells}</table>{images}</div>"
    )


def _figure(title: str, image: np.ndarray) -> str:
    height, width = image.shape
    scale = SHOWN / max(height, width)
    data = base64.b64encode(png(image)).decode()
    return (
        f"<figure style='margin:0;font-size:smaller;max-width:{SHOWN + 60}px'><img src='data:image/png;base64,{data}' alt='{title}' "
        f"style='width:{width * scale:.0f}px;height:{height * scale:.0f}px;image-rendering:pixelated'>"
        f"<figcaption>{title}</figcaption></figure>"
    )
