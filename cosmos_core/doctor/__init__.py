"""`cosmos doctor`: checks that compute something on this machine and compare it with what is known to be right."""

from cosmos_core.doctor.check import Check, DoctorOptions, Outcome, Result
from cosmos_core.doctor.runner import run_checks

__all__ = ["Check", "DoctorOptions", "Outcome", "Result", "run_checks"]
