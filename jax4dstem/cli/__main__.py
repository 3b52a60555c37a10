"""``python -m jax4dstem.cli`` is the command ``jax4dstem``."""

from jax4dstem.cli.commands import main

main()
