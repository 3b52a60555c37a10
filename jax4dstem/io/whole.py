"""Files that are there whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jax4dstem.errors import OutputError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give the name under which a file is written; it gets its own when it is complete.

    Args:
        path: Of the file; one that exists is replaced at the end.

    Raises:
        OutputError: It cannot be written; an older file is left as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with written_whole(Path(folder) / "a.txt") as unfinished:
        ...         size = unfinished.write_text("whole")
        ...     [file.name for file in Path(folder).iterdir()]
        ['a.txt']
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise OutputError(f"cannot write {path}: {reason}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
