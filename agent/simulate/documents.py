"""What simulated devices say, as documents."""

import time

from agent.outbox import READS
from modules import __version__
from modules.names import DeviceId
from modules.needs import HostFacts
from modules.protocol.batch import BATCH
from modules.protocol.facts import TRIES, Facts
from modules.protocol.report import Refusal, Report, SlotReport


def report(
    name: DeviceId, number: int, *, order: int, slots: tuple[SlotReport, ...], refusals: tuple[Refusal, ...]
) -> Report:
    """A report of now."""
    return Report(
        device=name,
        number=number,
        issued=time.time(),
        order=order,
        agent=__version__,
        slots=slots,
        refusals=refusals,
    )


def facts(name: DeviceId, number: int, host: HostFacts) -> Facts:
    """What it is, as of now."""
    reads = (*(one for one in READS if one != BATCH), TRIES)
    return Facts(device=name, number=number, issued=time.time(), agent=__version__, host=host, formats=reads)
