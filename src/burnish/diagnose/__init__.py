"""What a run's measurements say: symptoms, with their evidence, their likely cause and a remedy."""

from burnish.diagnose.finding import Finding, Severity
from burnish.diagnose.measured import Measured
from burnish.diagnose.rules import diagnose, findings_of
from burnish.diagnose.verdict import verdict

__all__ = ["Finding", "Measured", "Severity", "diagnose", "findings_of", "verdict"]
