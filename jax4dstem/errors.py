"""Errors that a user can act on: one line saying what was given, what was expected, what to do."""


class InputError(ValueError):
    """The data, recipe or options cannot be used; raised at the boundary, before any compute."""


class OutputError(OSError):
    """The results cannot be written (no permission, disk full)."""
