"""The command line: ``jax4dstem info | analyze | strain | train | demo | explore | compare | report | recipe``.

Nothing here loads JAX before a command has looked at its options.
"""

from jax4dstem.cli.commands import app, main

__all__ = ["app", "main"]
