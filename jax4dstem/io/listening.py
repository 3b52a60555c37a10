"""What other libraries' readers warn of, as lines for notes instead of on the screen."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listening(library: str) -> Iterator[list[str]]:
    """Collect a library's warnings, logged or issued; the list is complete when the block ends.

    Args:
        library: Name of its logger.
    """
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage().splitlines()[0])
    logger = logging.getLogger(library)
    propagates, handlers = logger.propagate, logger.handlers[:]
    logger.propagate, logger.handlers[:] = False, [handler]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            yield heard
        issued = (each for each in caught if issubclass(each.category, UserWarning))
        heard += (str(each.message).splitlines()[0] for each in issued)
    finally:
        logger.propagate, logger.handlers[:] = propagates, handlers
