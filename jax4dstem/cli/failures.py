"""What goes wrong, in one line: errors of the user's with what to do, all others with a log to report."""

import datetime
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from jax4dstem._version import __version__
from jax4dstem.errors import InputError, NothingFound, OutputError

LOG = "jax4dstem-error.log"
ADVICE = "this is a fault of jax4dstem: please report it, with that file, where you got jax4dstem"


@contextmanager
def one_line_errors(out: Path | None) -> Iterator[None]:
    """End the command with one line on the screen and a status.

    It is 1 after an error, 2 where nothing was found (results and report are written), 130 after Ctrl-C.

    Args:
        out: The directory of results, where an unexpected error leaves its log, if it exists.
    """
    try:
        yield
    except (InputError, OutputError) as error:
        _fail(str(error))
    except NothingFound as nothing:
        _fail(str(nothing), status=2)
    except BrokenPipeError:
        raise  # the reader of the output has closed it, as `head` does
    except KeyboardInterrupt:
        typer.secho("interrupted; finished stages are kept", fg="yellow", err=True)
        raise typer.Exit(130) from None
    except Exception as error:  # a traceback helps nobody who has not written the code
        message = (str(error).strip() or "no message").splitlines()[0]
        log = _write_log(error, out)
        _fail(f"{type(error).__name__}: {message}; the traceback is in {log}; {ADVICE}")


def _fail(message: str, status: int = 1) -> None:
    typer.secho(f"error: {message}", fg="red", err=True)
    raise typer.Exit(status)


def _write_log(error: Exception, out: Path | None) -> Path:
    """Version, time and traceback, in OUT or, where that cannot be written, in the temporary directory."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    text = f"jax4dstem {__version__}, {now}\n{''.join(traceback.format_exception(error))}"
    if out is not None and out.is_dir():
        try:
            (out / LOG).write_text(text)
            return out / LOG
        except OSError:
            pass  # a full disk or no permission: the temporary directory is elsewhere
    with tempfile.NamedTemporaryFile("w", prefix="jax4dstem-", suffix=".log", delete=False) as file:
        file.write(text)
    return Path(file.name)
