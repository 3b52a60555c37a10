"""Errors that a user can act on, each one line: what was given, what was expected, what to do."""


class InputError(ValueError):
    """The data, recipe or options cannot be used; raised at the boundary, before any compute."""


class OutputError(OSError):
    """The results cannot be written (no permission, disk full)."""


class NothingFound(Exception):
    """The command has run and written its results, but they do not hold what was asked for."""
