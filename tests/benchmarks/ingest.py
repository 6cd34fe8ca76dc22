"""How many reports a second the fleet server takes into its database: ``python -m tests.benchmarks.ingest``.

A fleet is one rollout of many devices; each reports phase after phase, as signed envelopes, in batches as they come
under pressure. Measured is what one worker thread does from the envelope to the commit, on SQLite and, where it is
installed, on PostgreSQL; MQTT is not in it. The table says where the time of a report goes.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import msgspec
from sqlalchemy import event

from fleet import ingest as ingest_file
from fleet.db import Database
from fleet.rollouts.model import Policy, Wave
from modules.names import DeviceId
from modules.protocol.report import Report
from modules.signing import REPORT_TYPE
from tests.doubles.fleet_rows import SmallFleet, slot_report
from tests.parts.postgres import postgres
from tests.parts.presence import missing

PHASES = ("accepted", "fitted", "fetching", "verified", "staged", "starting", "probation", "committed")
BATCH = 1000
# On one core; three times what it was before batches were written as such.
AT_LEAST = 1700


class Clocks:
    """Seconds by what they were spent on; used by one thread."""

    def __init__(self):
        self.spent = defaultdict(float)

    def around(self, name, function):
        def timed(*arguments, **more):
            began = time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                self.spent[name] += time.perf_counter() - began

        return timed

    def listen(self, engine):
        event.listen(engine, "before_cursor_execute", lambda *_: self._begin("before"))
        event.listen(engine, "after_cursor_execute", lambda _c, _cu, statement, *_: self._statement(statement))
        engine.dialect.do_commit = self.around("commit, with its sync", engine.dialect.do_commit)

    def _begin(self, name):
        self.spent[name] = time.perf_counter()

    def _statement(self, statement):
        kind = statement.split(None, 1)[0].lower()
        kind = kind if kind in {"select", "insert", "update"} else "other statements"
        self.spent[kind] += time.perf_counter() - self.spent.pop("before")


def fleet_of(count, database, folder):
    """Devices of one rollout whose orders are out; each has its own key."""
    fleet = SmallFleet(folder, database)
    names = [fleet.add_device(f"dev-{number:05}") for number in range(count)]
    fleet.start(fleet.add_module("digits"), devices=tuple(names), policy=Policy(waves=(Wave(percent=100.0),)))
    return fleet, names


def reports(fleet, names, number, phase):
    """What each device says next."""
    slot = slot_report(fleet, names[0], phase)
    slot = msgspec.structs.replace(slot, times=tuple((one, 1.8e9) for one in PHASES[:number]))
    said = Report(device=names[0], number=number, issued=1.8e9, order=1, agent="0.1.0", slots=(slot,), epoch="a" * 16)
    each = (msgspec.structs.replace(said, device=DeviceId(name)) for name in names)
    return [fleet.said(one.device, "report", one, REPORT_TYPE) for one in each]


def measured(kind, count, database, folder):
    """Reports a second, milliseconds of CPU for each, and where they go."""
    fleet, names = fleet_of(count, database, folder)
    clocks = Clocks()
    clocks.listen(database.engine)
    verify = ingest_file.verify
    ingest_file.verify = clocks.around("envelope and signature", verify)
    wall = cpu = 0.0
    try:
        for number, phase in enumerate(PHASES, 1):
            batch = reports(fleet, names, number, phase)
            began, used = time.perf_counter(), time.process_time()
            for start in range(0, count, BATCH):
                receipts = fleet.ingest.commit(batch[start : start + BATCH])
                assert len(receipts) == len(batch[start : start + BATCH])
            wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - used
    finally:
        ingest_file.verify = verify
    taken = count * len(PHASES)
    # Several threads read at once, so that their time is no part of the whole's.
    checked = clocks.spent.pop("envelope and signature")
    clocks.spent["reading, deciding"] = wall - sum(clocks.spent.values())
    print(f"\n{kind}: {taken / wall:,.0f} reports a second, {cpu / taken * 1000:.3f} ms of CPU each")
    for name, seconds in sorted(clocks.spent.items(), key=lambda item: -item[1]):
        print(f"  {name:24} {seconds / taken * 1e6:7.1f} µs  {seconds / wall:6.1%}")
    print(f"  envelopes and signatures take {checked / taken * 1e6:.1f} µs, several at a time")
    return {"reports_per_s": round(taken / wall), "cpu_ms_per_report": round(cpu / taken * 1000, 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=2000)
    count = parser.parse_args().devices
    figures = {}
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        urls = {"sqlite": ""}
        if why := missing("postgres"):
            print(f"without PostgreSQL: {why}")
        else:
            urls["postgresql"] = parts.enter_context(postgres()).shared()
        for kind, url in urls.items():
            (folder / kind).mkdir()
            database = Database.of(url, folder / kind / "fleet.sqlite")
            database.migrate()
            figures[kind] = measured(kind, count, database, folder / kind)
            database.close()
    targets = {
        f"{kind}_reports_per_s": {"at_least": AT_LEAST, "met": found["reports_per_s"] >= AT_LEAST}
        for kind, found in figures.items()
    }
    print(json.dumps({"benchmark": "ingest", "figures": figures, "targets": targets}))
    return 0 if all(target["met"] for target in targets.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
