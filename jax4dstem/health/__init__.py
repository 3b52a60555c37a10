"""The health of a run: what was found, what is doubtful, what was assumed, and how to overrule it."""

from jax4dstem.health.doubts import HealthDoubt
from jax4dstem.health.evidence import Evidence
from jax4dstem.health.judge import Health, judge

__all__ = ["Evidence", "Health", "HealthDoubt", "judge"]
