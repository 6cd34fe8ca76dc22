"""A fleet to look at in the console: devices as rows of a running server's database, as they would have come."""

import time

import msgspec
from sqlalchemy import select, update

from fleet import events
from fleet.rollouts.model import Policy, Wave
from fleet.settings import Settings
from fleet.setup import opened
from fleet.tables import devices, slots
from modules.names import ModuleRef, Slug
from modules.needs import Accelerator, Engine, HostFacts
from modules.protocol.batch import JobReport
from modules.protocol.facts import Facts
from modules.protocol.order import SlotOrder
from modules.protocol.report import Health, Reason, Refusal, Running, SlotReport
from modules.protocol.telemetry import Sample
from modules.signing import FACTS_TYPE
from tests.doubles.device import READS
from tests.doubles.fleet_rows import SmallFleet

SITES = ("berlin", "lyon", "porto")
SOMEWHERE = f"site in ({','.join(SITES)})"
# What a device says in each of its own words, where it means harm; then letters that turn what follows, and a word as
# long as such a text may be.
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{constructor.constructor('alert(3)')()}}"
TURNS = "\u202a\u202b\u202d\u202e\u2066\u2067\u2068"
LINE = (HOSTILE + TURNS + "W" * 500)[:500]
SENTENCE = (HOSTILE + TURNS + "W" * 2000)[:2000]
WORD = (HOSTILE[:60] + TURNS + "W" * 100)[:100]
HOST = HostFacts(
    platform="linux/amd64",
    cpu_model="Cortex-A78AE",
    cores=6,
    memory_mb=7620,
    disk_free_mb=40960,
    accelerators=(
        Accelerator(
            kind="cuda", name="Orin", providers=("TensorrtExecutionProvider", "CUDAExecutionProvider"), memory_mb=7620
        ),
    ),
    engines=(Engine(name="docker", version="27.1"), Engine(name="process")),
)


def planted(data, *, count=12):
    """Devices of three sites with a module each: a rollout under way, one degraded, some offline; the fleet."""
    fleet = SmallFleet(data.root, opened(Settings(data=data.root)))
    for number in range(count):
        fleet.add_device(f"press-{number:02}", host=HOST, labels={"site": SITES[number % 3], "line": f"l{number % 4}"})
    with fleet.database.write() as connection:
        connection.execute(
            update(devices).where(devices.c.id.like("press-%")).values(online=True, last_seen=fleet.now, enrolled=1.0)
        )
    done = fleet.start(fleet.add_module("defects"), slot=Slug("camera"), selector=SOMEWHERE)
    fleet.publish()
    for number in range(count):
        committed(fleet, f"press-{number:02}")
    policy = Policy(waves=(Wave(count=2), Wave(percent=50), Wave(percent=100)))
    running = fleet.start(fleet.add_module("speech"), slot=Slug("voice"), policy=policy, selector=SOMEWHERE)
    fleet.publish()
    return fleet, done, running


def committed(fleet, name, *, slot="camera", health="up"):
    """A device says that it serves what it was ordered to."""
    counter, wanted = ordered(fleet, name, slot)
    module = str(ModuleRef.from_target(wanted.manifest))
    times = [(phase, fleet.now - 900 + 60 * at) for at, phase in enumerate(("accepted", "fitted", "fetching"))]
    times += [("staged", fleet.now - 600), ("starting", fleet.now - 590), ("committed", fleet.now - 580)]
    said = SlotReport(
        slot=Slug(slot),
        phase="degraded" if health == "degraded" else "committed",
        module=module,
        digest=wanted.digest,
        serving=Running(module=module, digest=wanted.digest, provider="TensorrtExecutionProvider", engine="docker"),
        times=tuple(times),
        current=Health(state=health, restarts=3 if health == "degraded" else 0),
    )
    fleet.send(name, [said], order=counter)


def ordered(fleet, name, slot):
    """The counter of a device's order, and what it says of a slot; whoever signed it, the server or the fleet."""
    with fleet.database.read() as connection:
        mine = (slots.c.device == name) & (slots.c.slot == slot)
        document = connection.scalars(select(slots.c.document).where(mine)).one()
        counter = connection.scalars(select(devices.c.order_counter).where(devices.c.id == name)).one()
    return counter, msgspec.json.decode(document, type=SlotOrder)


def measured(fleet, name, *, hours=6):
    """A device's figures of some hours."""
    number = 0
    for minute in range(hours * 12):
        at = time.time() - 3600 * hours + 300 * minute
        wave = minute % 17
        for stream, slot, figures in (
            ("host", None, {"temperature_c": 48.0 + wave, "cpu_percent": 20.0 + 3 * wave, "memory_used_percent": 41.0}),
            ("gateway", "camera", {"requests": 90.0, "p50_ms": 8.0 + wave / 4, "p95_ms": 15.0 + wave, "fallback": 2.0}),
            ("modules", "camera", {"up": 1.0, "memory_mb": 310.0 + wave}),
        ):
            number += 1
            more = {"slot": Slug(slot)} if slot else {}
            fleet.measured(name, number, stream=stream, samples=(Sample(at=at, figures=figures, **more),))


def hostile(fleet, name):
    """A device of which every word is an attack on whoever reads it."""
    host = HostFacts(
        platform=WORD,
        cpu_model=LINE,
        accelerators=(Accelerator(kind=WORD, name=LINE, providers=(WORD,), devices=(LINE,), driver=LINE),),
        engines=(Engine(name=WORD, version=LINE, detail=LINE),),
    )
    said = Facts(device=name, number=9, issued=1.0, agent=WORD, host=host, formats=READS)
    fleet.ingest.commit([fleet.said(name, "facts", said, FACTS_TYPE)])
    counter, wanted = ordered(fleet, name, "camera")
    reason = Reason(code=WORD, message=SENTENCE)
    slot = SlotReport(
        slot=Slug("camera"),
        phase=WORD,
        module=LINE,
        digest=wanted.digest,
        reason=reason,
        current=Health(state=WORD, restarts=3, reason=reason),
        times=((WORD, 1.0), ("fetching", 2.0)),
        serving=Running(module=LINE, digest=wanted.digest, provider=WORD, engine=WORD),
    )
    refusal = Refusal(what=LINE, reason=reason, at=1.0)
    job = JobReport(mark="a" * 16, name=Slug("evening"), state=WORD, why=SENTENCE)
    fleet.send(name, [slot], order=counter, agent=WORD, refusals=(refusal,), jobs=(job,))
    given, _ = fleet.give("ping", device=name)
    answer = fleet.answer(fleet.signed_command(given[name]), 1, "failed", note=SENTENCE, reason=reason)
    fleet.ingest.commit([answer])
    with fleet.database.write() as connection:
        events.record(connection, fleet.now, "device-refused", SENTENCE, device=name)
