"""How much a model served without code may take."""

from typing import Final

from fleet.client.sdk.exceptions import UserErrorException

MOST_CORES: Final = 1024.0
MOST_GB: Final = 4096.0


class ResourceConfiguration:
    """Cores and gigabytes; ``gpu`` is a number of GPUs, which only a device or a cluster can have."""

    def __init__(self, cpu: float | None = None, memory_in_gb: float | None = None, gpu: int | None = None) -> None:
        for name, value, most in (("cpu", cpu, MOST_CORES), ("memory_in_gb", memory_in_gb, MOST_GB)):
            if value is not None and not 0 < value <= most:
                raise UserErrorException(
                    f"{value!r} is outside 0 to {most:g}", element=name, remedy="write cores, or gigabytes"
                )
        self.cpu, self.memory_in_gb, self.gpu = cpu, memory_in_gb, gpu

    def __repr__(self) -> str:
        return f"ResourceConfiguration(cpu={self.cpu}, memory_in_gb={self.memory_in_gb}, gpu={self.gpu})"
