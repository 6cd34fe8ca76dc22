"""Three devices, of which one is the canary: what most tests of rollouts begin with."""

from fleet.rollouts.model import Wave

THREE = ("dev-a", "dev-b", "dev-c")
CANARY = (Wave(count=1), Wave(percent=100.0))
