"""What a run is judged by: the answers that there are."""

from dataclasses import dataclass

import numpy as np

from jax4dstem.beam import BeamPositions, Survey
from jax4dstem.coordinates import Calibration
from jax4dstem.domains import DomainMap
from jax4dstem.strain import NoStrain, Status, StrainAnswers


@dataclass(frozen=True)
class Evidence:
    """The answers that doubts come from.

    Attributes:
        calibration: Of the scan.
        survey: Of the scan.
        beam: Of the scan.
        domains: None where they were not asked for.
        strain: None where it was not asked for.
        reading: What may be wrong with how the file was read.
    """

    calibration: Calibration
    survey: Survey
    beam: BeamPositions
    domains: DomainMap | None = None
    strain: StrainAnswers | NoStrain | None = None
    reading: tuple[str, ...] = ()

    @property
    def measured(self) -> StrainAnswers | None:
        """Strain with a value at one position or more."""
        found = self.strain
        return found if isinstance(found, StrainAnswers) and found.strain.ok.any() else None

    @property
    def no_strain(self) -> str | None:
        """Why no position has strain although it was asked for; None where one has."""
        if self.strain is None or self.measured is not None:
            return None
        if isinstance(self.strain, NoStrain):
            return self.strain.reason
        status = self.strain.strain.status[self.survey.valid]
        return f"no position has strain: {self.in_words(status)}"

    @staticmethod
    def in_words(status: np.ndarray) -> str:
        """How many positions have no strain, for which reason."""
        numbers = {s: int((status == s).sum()) for s in Status if s != Status.OK}
        told = [f"{n} {s.name.lower().replace('_', ' ')}" for s, n in numbers.items() if n]
        return ", ".join(told)

    @property
    def dose(self) -> float:
        """Median electrons of a pattern."""
        return float(np.median(self.survey.dose[self.survey.valid]))
