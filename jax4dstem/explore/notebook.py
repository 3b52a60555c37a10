"""The explorer's host in a notebook: a widget whose questions the kernel answers."""

from typing import Any

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.explore.assets import asset
from jax4dstem.explore.subject import Subject
from jax4dstem.explore.wire import unpacked
from jax4dstem.pipeline.results import Results


def explore(explored: Results | Dataset, scan: Dataset | None = None) -> Any:
    """Show results, or a scan, in a notebook.

    Args:
        explored: What is to be seen.
        scan: The patterns of results whose scan was in memory, or lies elsewhere now.

    Returns:
        The widget, which a notebook shows where it is a cell's last value.

    Raises:
        InputError: It is neither results nor a scan, or the package anywidget is not there.

    Example:
        >>> from jax4dstem import open_results
        >>> explore(open_results("out"))  # doctest: +SKIP
    """
    subject = Subject.of(explored, scan)
    try:
        import anywidget  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise InputError(
            "the explorer in a notebook needs anywidget: pip install 'jax4dstem[explorer]'"
        ) from error

    class Explorer(anywidget.AnyWidget):
        _esm = asset("explorer.js")
        _css = asset("explorer.css")

    widget = Explorer()
    widget.on_msg(lambda view, content, buffers: view.send(*reply_to(subject, content)))
    return widget


def reply_to(subject: Subject, content: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """Message and buffers that answer a page's message."""
    try:
        answer = subject.answer(content["name"], unpacked(content["args"]))
    except InputError as error:
        return {"id": content["id"], "error": str(error)}, []
    return {"id": content["id"], "about": answer.head}, [answer.body]
