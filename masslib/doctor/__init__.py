"""`python -m masslib doctor`: what is wrong with this installation, and what to type to mend it."""

from masslib.doctor.findings import Finding
from masslib.doctor.imports import import_findings
from masslib.doctor.packages import package_findings
from masslib.doctor.ranges import Ranges, declared_ranges
from masslib.doctor.settings import setting_findings

__all__ = ["Finding", "Ranges", "import_findings", "package_findings", "setting_findings", "declared_ranges"]
