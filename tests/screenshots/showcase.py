"""A fleet worth looking at: four sites, several models and versions, rollouts in every state, and some trouble.

The server and its API are real; devices are rows of its database, as they would have come by the broker
(tests/parts/console_fleet.py).
"""

import datetime as dt
import math
import time
from typing import Any, Final, NamedTuple

import httpx
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from sqlalchemy import delete, insert, select, update

from fleet import events, health_counts
from fleet.look_tables import health_counts as counted
from fleet.settings import Settings
from fleet.setup import opened
from fleet.tables import certificates, devices, modules, rollouts
from fleet.tables import events as written
from modules import __version__
from modules.manifest import Proof, Runtime
from modules.names import ModuleRef, Slug
from modules.needs import Accelerator, Engine, HostFacts
from modules.protocol.measured import Measured
from modules.protocol.report import Health, Reason, Report, Running, SlotReport
from modules.protocol.telemetry import Sample
from modules.samples import Sample as ModuleSample
from modules.samples import Samples, encode
from tests.doubles.fleet_rows import SmallFleet
from tests.doubles.publisher import Publisher, checked
from tests.doubles.release import make_image
from tests.parts.console_fleet import ordered
from tests.parts.digits import GRAPH
from tests.parts.fleet_server import FleetServer
from tests.parts.pace import stretched

SITES: Final = {"berlin": 14, "lyon": 11, "porto": 9, "oslo": 6}
_PLACES: Final = {
    "berlin": ("52.52", "13.40"),
    "lyon": ("45.76", "4.84"),
    "porto": ("41.15", "-8.61"),
    "oslo": ("59.91", "10.75"),
}
SOMEWHERE: Final = f"site in ({','.join(SITES)})"
_CAMERA: Final = Slug("camera")
_VOICE: Final = Slug("voice")
_HOSTS: Final = (
    HostFacts(
        platform="linux/arm64",
        cpu_model="Cortex-A78AE",
        cores=6,
        memory_mb=7620,
        disk_free_mb=40960,
        accelerators=(
            Accelerator(
                kind="cuda",
                name="Orin",
                providers=("TensorrtExecutionProvider", "CUDAExecutionProvider"),
                memory_mb=7620,
            ),
        ),
        engines=(Engine(name="docker", version="27.1"), Engine(name="process")),
    ),
    HostFacts(
        platform="linux/amd64",
        cpu_model="Atom x6425RE",
        cores=4,
        memory_mb=3800,
        disk_free_mb=12288,
        engines=(Engine(name="docker", version="26.0"), Engine(name="process")),
    ),
)
_ON_THE_WAY: Final = ("accepted", "fitted", "fetching", "verified", "staged", "starting", "probation", "committed")
_WITHIN_S: Final = stretched(60.0)
# A graph with these bytes behind it has a description, and is another one.
_DOC: Final = b"\x32\x09scratches"
_LOOK_S: Final = 0.1


class Named(NamedTuple):
    """What stands in the addresses of pages: things that are there to be looked at."""

    device: str
    rollout: str
    endpoint: str
    team: str
    name: str
    version: str
    to: str
    digest: str


class Showcase:
    """The fleet while it is being made."""

    def __init__(self, server: FleetServer, http: httpx.Client, lab: dict[str, Any]) -> None:
        self._http, self._owner, self._lab = http, Publisher(http), lab
        self.rows = SmallFleet(server.data.root, opened(Settings(data=server.data.root)))
        self.names = [f"{site}-press-{number:02}" for site, count in SITES.items() for number in range(1, count + 1)]

    def make(self) -> Named:
        self._owner.found()
        defects = [self._module("defects", "Surface defects on the press line", words) for words in ("a", "b", "c")]
        speech = [self._module("speech", "Wake words at the gate", words) for words in ("a", "b")]
        self._owner.upload("parcels", _files("a"), proof=Proof(), description="Counts parcels on a belt")
        self._devices()
        waves = [{"count": 4}, {"percent": 35}, {"percent": 100}]
        lenient = {"failure_percent": 40, "success_percent": 60}
        gates = [
            {"measure": "p95_ms", "at_most_times": 1.5, "minimum": 20},
            {"measure": "error_percent", "at_most": 1, "minimum": 20},
        ]
        self._all_commit(self._start(defects[0], "camera", SOMEWHERE, {"waves": waves}), _CAMERA, defects[0])
        self._all_commit(self._start(speech[0], "voice", "site in (berlin,lyon)"), _VOICE, speech[0])
        policy = {"waves": [{"count": 2}, {"percent": 100}], "gates": gates, "on_failure": "revert"}
        self._goes_back(self._start(defects[1], "camera", "site=porto", policy), defects[1])
        policy = {"waves": [{"count": 3}, {"percent": 100, "approval": True}], "gates": gates}
        waits = self._start(speech[1], "voice", "site=lyon", policy)
        self._wave(waits, 1, _VOICE, speech[1])
        running = self._start(
            defects[2], "camera", "site in (berlin,lyon,oslo)", {"waves": waves, "gates": gates} | lenient
        )
        self._wave(running, 1, _CAMERA, defects[2])
        self._under_way(running, defects[2])
        self._trouble()
        shares = {"v1": (defects[0], 85, 2), "v3": (defects[2], 15, 1)}
        self._endpoint(
            {name: dict(zip(("module", "weight", "replicas"), one, strict=True)) for name, one in shares.items()}
        )
        self._days_ago()
        self._counts()
        self.rows.database.close()
        team, name, version = "acme", "defects", defects[2].rpartition(":")[2]
        to, digest = defects[1].rpartition(":")[2], self._upload()
        return Named("berlin-press-01", str(running), "defects", team, name, version, to, digest)

    def _module(self, name: str, description: str, words: str) -> str:
        image, blobs = make_image(name)
        for digest, data in blobs.items():
            checked(self._http.put(f"/api/v1/blobs/{digest}", content=data))
        runtimes = (Runtime(platform="linux/arm64"), Runtime(platform="linux/amd64", image=image))
        manifest = self._owner.upload(name, _files(words), proof=Proof(), description=description, runtimes=runtimes)
        self._owner.sign(manifest)
        return str(manifest.ref)

    def _upload(self) -> str:
        """Two models, of which one is in signed modules by now; the digest of the other."""
        graph = GRAPH.read_bytes()
        for name, data in (("digits.onnx", graph), ("scratches.onnx", graph + _DOC)):
            sent = checked(self._http.post("/api/v1/uploads/acme", params={"name": name}, content=data))
        return str(sent.json()["digest"])

    def _devices(self) -> None:
        for number, name in enumerate(self.names):
            site = name.partition("-")[0]
            labels = {"site": site, "line": f"l{1 + number % 4}"} | ({"ring": "canary"} if number % 9 == 0 else {})
            if name.endswith("-02"):
                labels |= dict(zip(("site.lat", "site.lon"), _PLACES[site], strict=True))
            self.rows.add_device(name, host=_HOSTS[number % 5 == 4], labels=labels, agent=__version__)
        with self.rows.database.write() as connection:
            for name in self.names:
                text, row = self._certificate(name)
                connection.execute(update(devices).where(devices.c.id == name).values(certificate=text))
                connection.execute(insert(certificates).values(**row))
            connection.execute(update(devices).values(online=True, last_seen=self.rows.now, enrolled=1.75e9))

    def _certificate(self, name: str) -> tuple[str, dict[str, Any]]:
        """As the fleet's authority would have given it some weeks ago, and its row."""
        begins = dt.datetime.fromtimestamp(self.rows.now - 20 * 86400, dt.UTC)
        ends = begins + dt.timedelta(90)
        key, subject = self.rows.keys[name], x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .sign(key, hashes.SHA256())
        )
        row = {"serial": f"{made.serial_number:x}", "device": name, "issued": begins.timestamp()}
        return made.public_bytes(serialization.Encoding.PEM).decode(), row | {"expires": ends.timestamp()}

    def _start(self, module: str, slot: str, selector: str, policy: dict[str, Any] | None = None) -> int:
        body = {"module": module, "slot": slot, "selector": selector, "engine": "process", "policy": policy or {}}
        return int(checked(self._http.post("/api/v1/rollouts", json=body)).json()["id"])

    def _members(self, rollout: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.rows.view(rollout)["devices"]
        return found

    def _working(self, rollout: int) -> list[str]:
        """Those that have an order and are not done; the server's engine gives it, and opens waves."""
        self.rows.publish()
        return [one["device"] for one in self._members(rollout) if one["standing"] == "working"]

    def _wave(self, rollout: int, wave: int, slot: Slug, module: str) -> None:
        """All of an open wave commit what it brings."""
        theirs = {one["device"] for one in self._members(rollout) if one["wave"] == wave}
        ends = time.monotonic() + _WITHIN_S
        while left := theirs - {one["device"] for one in self._members(rollout) if one["standing"] == "succeeded"}:
            assert time.monotonic() < ends, f"{left} of rollout {rollout} are not done"
            for name in left & set(self._working(rollout)):
                self.say(name, slot, module, "committed")
            self.rows.tick()

    def _all_commit(self, rollout: int, slot: Slug, module: str) -> None:
        for wave in sorted({one["wave"] for one in self._members(rollout)}):
            self._wave(rollout, wave, slot, module)
        ends = time.monotonic() + _WITHIN_S
        while self.rows.view(rollout)["state"] != "done":
            assert time.monotonic() < ends, self.rows.view(rollout)["waits_for"]
            self.rows.tick()

    def _goes_back(self, rollout: int, module: str) -> None:
        """Its first wave is slower than a gate allows: those that had it go back, and somebody takes back the rest."""
        ends = time.monotonic() + _WITHIN_S
        while not (working := self._working(rollout)):
            assert time.monotonic() < ends, f"rollout {rollout} does not begin"
            self.rows.tick()
        for name in working:
            self.say(name, _CAMERA, module, "committed", measured=_window(61.4), before=_window(19.8))
        before = f"{module.rpartition(':')[0]}:1"
        while any(one["device"] in working and one["standing"] != "returned" for one in self._members(rollout)):
            assert time.monotonic() < ends, self.rows.view(rollout)["waits_for"]
            self.rows.tick()
            self.rows.publish()
            for name in working:
                if ordered(self.rows, name, "camera")[1].manifest == ModuleRef.parse(before).target:
                    self.say(name, _CAMERA, before, "committed")
        checked(self._http.post(f"/api/v1/rollouts/{rollout}/revert"))

    def _under_way(self, rollout: int, module: str) -> None:
        """The second wave is in the midst of it: some are done, one failed, some fetch and start."""
        ends = time.monotonic() + _WITHIN_S
        while not (working := self._working(rollout)):
            assert time.monotonic() < ends, f"wave 2 of rollout {rollout} does not open"
            self.rows.tick()
        for number, name in enumerate(working):
            if number == 1:
                reason = Reason(code="samples", message="sample seven: label is 3, the reference has 7")
                self.say(name, _CAMERA, module, "reverted", reason=reason)
            elif number < len(working) // 2:
                self.say(name, _CAMERA, module, "committed")
            elif number % 2:
                self.say(name, _CAMERA, module, "fetching", progress=min(0.15 * number, 0.95))
            else:
                self.say(name, _CAMERA, module, "probation")

    def _trouble(self) -> None:
        offline = ["porto-press-07", "porto-press-08", "oslo-press-03"]
        with self.rows.database.write() as connection:
            # What was written down while the fleet was made was before that.
            connection.execute(update(written).values(at=written.c.at - 5 * 3600))
            gone = update(devices).where(devices.c.id.in_(offline))
            connection.execute(gone.values(online=False, last_seen=self.rows.now - 2.2 * 86400))
            events.record(connection, self.rows.now - 4000, "login-refused", "3 wrong passwords for admin")
            said = "a report that another key signed"
            events.record(connection, self.rows.now - 300, "forged-message", said, device=offline[0])
        reason = Reason(code="exited", message="it ended with exit code 137: out of memory")
        health = Health(state="degraded", restarts=6, reason=reason)
        self.say("berlin-press-12", _VOICE, "acme/speech:1", "degraded", current=health)
        for name in self.names[:8]:
            self._measured(name)

    def _endpoint(self, versions: dict[str, dict[str, Any]]) -> None:
        """With two versions, in a cluster that is simulated; it is ready before anybody looks."""
        checked(self._http.put("/api/v1/targets/lab", json=self._lab))
        checked(self._http.patch("/api/v1/targets/lab", json={"price_per_hour": 0.14}))
        body = {"name": "defects", "target": "lab", "versions": versions, "default": "v1"}
        checked(self._http.post("/api/v1/endpoints", json=body | {"settings": {"devices": True}}))
        policy = {"fallback": "endpoint:defects", "group": "site=oslo", "money_a_day": 4.0}
        checked(self._http.put("/api/v1/fallbacks/acme/defects", json=policy))
        ends = time.monotonic() + _WITHIN_S
        while (found := checked(self._http.get("/api/v1/endpoints/defects")).json())["state"] != "ready":
            assert time.monotonic() < ends, found["why"]
            time.sleep(_LOOK_S)

    def _days_ago(self) -> None:
        """What was done first is some days old."""
        with self.rows.database.write() as connection:
            for number, days in ((1, 9.0), (2, 7.0), (3, 5.2), (4, 1.1), (5, 0.1)):
                one = rollouts.c.id == number
                connection.execute(update(rollouts).where(one).values(created=self.rows.now - days * 86400))
            for number, days in ((1, 30.0), (2, 12.0), (3, 3.0)):
                old = modules.c.version == str(number)
                connection.execute(update(modules).where(old).values(created=self.rows.now - days * 86400))

    def _counts(self) -> None:
        """Devices by state, every quarter of an hour of a week."""
        quarter = health_counts.QUARTER_S
        begin, rows = int(self.rows.now // quarter) * quarter, []
        for back in range(7 * 96):
            updating = 9 if back % 131 < 7 else 0
            offline, degraded = (5 if 40 < back < 60 else 3 if back < 200 else 1), (1 if back % 97 < 30 else 0)
            states = {"updating": updating, "offline": offline, "degraded": degraded, "revoked": 0}
            rows.append({"at": begin - back * quarter, "online": 40 - sum(states.values())} | states)
        with self.rows.database.write() as connection:
            connection.execute(delete(counted))  # the server counted, too, while nobody had joined
            connection.execute(insert(counted), rows)

    def _measured(self, name: str, hours: int = 24) -> None:
        """Its figures of a day, every ten minutes."""
        every: dict[str, list[Sample]] = {"host": [], "gateway": [], "modules": []}
        for step in range(hours * 6):
            at = self.rows.now - 3600 * hours + 600 * (step + 1)
            swing = math.sin(step / 11) + 0.3 * math.sin(step * 2.3)
            host = {"temperature_c": 52 + 6 * swing, "cpu_percent": 34 + 12 * swing, "memory_used_percent": 47 + swing}
            gateway = {"requests": 900 + 200 * swing, "p50_ms": 8 + swing, "p95_ms": 19 + 3 * swing, "fallback": 12.0}
            every["host"].append(Sample(at=at, figures=host))
            every["gateway"].append(Sample(at=at, slot=_CAMERA, figures=gateway))
            every["modules"].append(Sample(at=at, slot=_CAMERA, figures={"up": 1.0, "memory_mb": 310 + 8 * swing}))
        number = 0
        for stream, samples in every.items():
            for some in range(0, len(samples), 12):
                number += 1
                self.rows.measured(name, number, stream=stream, samples=tuple(samples[some : some + 12]))

    def say(self, name: str, slot: Slug, module: str, phase: str, **more: Any) -> None:
        """A device reports a slot; what its other slots were stays as it was."""
        counter, wanted = ordered(self.rows, name, slot)
        now, reached = self.rows.now, "committed" if phase in {"reverted", "degraded"} else phase
        until = _ON_THE_WAY.index(reached) + 1
        times = [(one, now - 20 * (until - at)) for at, one in enumerate(_ON_THE_WAY[:until])]
        times += [(phase, now)] if reached != phase else []
        serves = module if phase in {"committed", "probation", "degraded"} else "acme/defects:1"
        given = {"current": Health(state="up"), "measured": _window(20.6), "before": _window(19.8)} | more
        said = SlotReport(
            slot=slot,
            phase=phase,
            module=module,
            digest=wanted.digest,
            serving=Running(module=serves, digest=wanted.digest, provider=_provider(self.names, name), engine="docker"),
            times=tuple(times),
            **given,
        )
        others = [one for one in self._slots(name) if one.slot != slot]
        self.rows.send(name, [*others, said], order=counter)

    def _slots(self, name: str) -> list[SlotReport]:
        with self.rows.database.read() as connection:
            report = connection.scalars(select(devices.c.report).where(devices.c.id == name)).one()
        return list(msgspec.json.decode(report, type=Report).slots) if report else []


def _window(p95_ms: float) -> Measured:
    return Measured(seconds=60.0, requests=240, errors=1, p50_ms=p95_ms / 2.2, p95_ms=p95_ms, memory_mb=312)


def _provider(names: list[str], name: str) -> str:
    return "CPUExecutionProvider" if names.index(name) % 5 == 4 else "TensorrtExecutionProvider"


def _files(words: str) -> dict[str, bytes]:
    """A real graph, samples, and a file by which versions differ."""
    seven = b'{"data": [[0, 0, 7, 15, 13, 1, 0, 0, 0, 8, 13, 6, 15, 4, 0, 0]]}'
    told = (ModuleSample(name="seven", body=seven, answer=b'{"label": [7]}'),)
    return {
        "model.onnx": GRAPH.read_bytes(),
        "samples.json": encode(Samples(samples=told)),
        "classes.txt": f"scratch\ndent\nstain\n{words}\n".encode(),
    }
