"""What one probe found, and why it says so."""

import msgspec

from modules.needs import Accelerator


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the host's facts; empty or zero where this probe has nothing to say. Memory in MiB.

    ``notes`` are for people: what was looked at, and what keeps something that is there from being used.
    """

    platform: str = ""
    cpu_model: str = ""
    cores: float = 0.0
    memory_mb: int = 0
    accelerators: tuple[Accelerator, ...] = ()
    notes: tuple[str, ...] = ()
