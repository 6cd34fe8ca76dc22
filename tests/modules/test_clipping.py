"""What we say ourselves is within the bounds of its document, whatever it was learned from."""

import math

import msgspec
import pytest

from modules import canonical
from modules.clipping import clipped
from modules.needs import Accelerator, Engine, HostFacts
from modules.protocol import facts, report
from tests.modules.protocol.examples import EXAMPLES

HUGE = "x" * 10_000
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize("name", ["facts-1.json", "report-1.json", "status-1.json"])
def test_what_is_within_stays_as_it_is(name):
    """A document within its bounds is not changed."""
    assert clipped(EXAMPLES[name].document) == EXAMPLES[name].document


@pytest.mark.parametrize("number", [-1, 2**70, math.inf, -math.inf, math.nan])
def test_facts_of_a_strange_machine_are_readable(number):
    """Texts without an end, numbers out of bounds, bytes that are no text: the facts that tell of them are read."""
    host = HostFacts(
        platform=HUGE,
        cpu_model="\udcff" + HUGE,
        cores=number,
        memory_mb=2**70,
        disk_free_mb=-1,
        accelerators=(Accelerator(kind="cuda", name=HUGE, devices=(HUGE,) * 500),) * 2,
        engines=(Engine(name="docker", version=HUGE, detail=HUGE),) * 20,
    )
    said = clipped(facts.Facts(device="dev-1", number=1, issued=number, agent="0", host=host))

    read = canonical.decode(canonical.encode(said), facts.Facts, limit=1 << 20, what="facts")
    assert read.host.platform == "x" * 100
    assert read.host.cpu_model.startswith("?xx")
    assert len(read.host.accelerators[0].devices) == 256


def test_reports_of_strange_modules_are_readable():
    """What a module or an engine said without an end is cut, and the report is read."""
    reason = report.Reason(HUGE, "\udcff" + HUGE)
    slot = report.SlotReport(
        slot="main",
        phase="probation",
        module=HUGE,
        digest=DIGEST,
        attempts=-1,
        reason=reason,
        serving=report.Running(module=HUGE, digest=DIGEST, provider=HUGE),
        progress=math.nan,
        times=((HUGE, 1e300),) * 100,
        current=report.Health(state=HUGE, restarts=2**70, reason=reason),
    )
    said = clipped(report.Report(device="dev-1", number=1, issued=-1.0, order=-5, agent=HUGE, slots=(slot,) * 300))

    read = canonical.decode(canonical.encode(said), report.Report, limit=1 << 24, what="report")
    assert len(read.slots) == 256
    assert read.slots[0].progress == 0
    assert msgspec.structs.asdict(read.slots[0].reason) == {"code": "x" * 100, "message": "?" + "x" * 1999}
