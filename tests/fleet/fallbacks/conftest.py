"""A fleet of rows with an endpoint on a target, whose orders are completed by policies."""

import msgspec
import pytest
from sqlalchemy import delete, insert, select, update

from fleet.authority import Authority
from fleet.devices import set_labels
from fleet.fallback_tables import demands
from fleet.fallbacks import duty, policies, tallies
from fleet.fallbacks.answering import Completing
from fleet.fallbacks.policies import Policy
from fleet.folder import Folder
from fleet.orders import Orders
from fleet.rollouts.engine import Engine
from fleet.rollouts.model import Policy as Rolling
from fleet.rollouts.model import Wave
from fleet.tables import telemetry
from fleet.target_tables import endpoints, targets
from fleet.targets import secrets
from fleet.targets.contract import Life, Standing, VersionStands
from fleet.targets.endpoints import Endpoints, VersionWish
from fleet.targets.host_certificates import HostCertificates
from fleet.targets.secrets import Sealer
from fleet.targets.settings import Settings
from modules import canonical
from modules.counted import Counted
from modules.latencies import bin_of
from modules.manifest import Needs
from modules.protocol.report import Health, Reason, Running
from modules.protocol.telemetry import GATEWAY, Sample, Telemetry
from tests.doubles.device import HOST_FACTS
from tests.doubles.fleet_rows import SmallFleet, slot_report

HOST = "lab.example"
URL = f"https://{HOST}:8700"
UNFIT = Reason(code="unfit", message="it needs more memory")


class Fleet(SmallFleet):
    """Orders are completed by policies; what is decided about endpoints, a test brings about itself."""

    def __init__(self, folder, database):
        super().__init__(folder, database)
        self.wished = Endpoints(self.registry, sealer(folder), HostCertificates(Authority.create("fleet", self.clock)))
        self.orders = Orders(
            lambda _connection: self.director,
            life_s=86400,
            tokens=lambda connection, now, chosen: Completing(self.wished, self.registry, connection, now, chosen),
        )
        self.engine = Engine(database, self.registry, self.orders, self.clock, self.mishaps)
        row = {"name": "lab", "kind": "container", "created": 0.0, "price_per_hour": 3.6}
        row |= {"attached": '{"docker": "unix:///nonexistent.sock", "region": "lab"}'}
        with database.write() as connection:
            connection.execute(insert(targets).values(**row))

    def module(self, **parts):
        return self.add_module("digits", **({"fallback_hosts": (HOST, "other.example")} | parts))

    def huge(self, **parts):
        """A version that fits no device."""
        return self.module(needs=Needs(memory_mb=1 << 30), **parts)

    def one_by_one(self):
        """A policy of rollouts with a wave for the first device alone."""
        return Rolling(waves=(Wave(count=1), Wave(percent=100.0)))

    def big_host(self):
        """A host that even that fits."""
        return msgspec.structs.replace(HOST_FACTS, memory_mb=1 << 31)

    def change(self, connection, **settings):
        given = Settings(**settings)
        self.wished.change(connection, self.now, "digits", None, None, given, None, generation=None, by="anna")

    def label(self, device, **labels):
        """As the API changes them."""
        with self.database.write() as connection:
            set_labels(connection, device, labels)
        self.renew()

    def price(self, per_hour, per_1000=0.0):
        with self.database.write() as connection:
            connection.execute(update(targets).values(price_per_hour=per_hour, price_per_1000=per_1000))

    def counted(self, seconds, requests, *, busy_s=0.0, name="digits", replica="one"):
        """A look at the endpoint brings what its gateway has counted of a replica since it began."""
        each = bin_of(busy_s / requests) if requests else 0
        life = Life(seen=Counted(seconds=seconds, requests=requests, latencies=((each, requests),)))
        one = VersionStands(module="acme/digits:1", weight=100, wanted=1, ready=1, lives={replica: life})
        with self.database.write() as connection:
            row = connection.execute(select(endpoints).where(endpoints.c.name == name)).one()
            tallies.heard(connection, self.now, row, Standing(state="ready", versions={"v1": one}))

    def endpoint(self, ref, *, name="digits", state="ready", **settings):
        given = Settings(**({"devices": True} | settings))
        with self.database.write() as connection:
            wish = {"v1": VersionWish(ref, 0, 1)}
            self.wished.create(connection, self.now, name, "lab", wish, None, given, secrets.made(), by="anna")
        self.stands(state, name=name)

    def stands(self, state, *, name="digits", url=URL, admitted=1000):
        """How the target has it, as its duty would write it down."""
        standing = msgspec.json.encode(Standing(state=state, url=url)).decode()
        mine = endpoints.c.name == name
        with self.database.write() as connection:
            connection.execute(update(endpoints).where(mine).values(state=state, standing=standing, admitted=admitted))

    def put(self, selector="*", fallback="endpoint:digits", *, terms=None, **more):
        with self.database.write() as connection:
            policy = Policy(fallback=fallback, terms=terms or {}, **more)
            policies.put(connection, self.now, "acme", "digits", selector, policy, by="anna")
        self.renew()

    def remove(self, selector="*"):
        with self.database.write() as connection:
            policies.remove(connection, self.now, "acme", "digits", selector, by="anna")
        self.renew()

    def renew(self):
        """Time goes on, so that what is due now is over."""
        self.now += 1
        self.tick()

    def look(self):
        """One look of the duty, and the orders that follow."""
        with self.database.write() as connection:
            found = duty.look(connection, self.now, duty.who(connection, self.now))
        self.renew()
        return found

    def row(self, name="digits"):
        with self.database.read() as connection:
            return connection.execute(select(endpoints).where(endpoints.c.name == name)).one()

    def demand(self, name="digits"):
        with self.database.read() as connection:
            return connection.execute(select(demands).where(demands.c.endpoint == name)).one_or_none()

    def cloud(self, device, slot="digits"):
        """What the device's order says of a fallback; None: nothing."""
        return self.order(device).slots[slot].cloud or None

    def misfit(self, device):
        """The device says that the module does not fit."""
        said = slot_report(self, device, "rejected", reason=UNFIT)
        self.send(device, [said], order=self.order(device).counter)

    def health(self, device, state):
        """The device says how its committed module is."""
        said = slot_report(self, device, "committed", current=Health(state=state), serving=serving(self, device))
        self.send(device, [said], order=self.order(device).counter)

    def gateway(self, device, **figures):
        """The device says what its gateway saw."""
        sample = Sample(at=self.now, slot="digits", figures=figures)
        said = Telemetry(device=device, stream=GATEWAY, number=1, issued=self.now, samples=(sample,))
        values = {"device": device, "stream": GATEWAY, "number": 1, "received": self.now, "day": 0, "day_bytes": 0}
        with self.database.write() as connection:
            connection.execute(delete(telemetry).where(telemetry.c.device == device))
            connection.execute(insert(telemetry).values(**values, document=canonical.encode(said)))


def sealer(folder):
    made = Folder(folder)
    made.key(made.ca).parent.mkdir(parents=True, exist_ok=True)
    made.key(made.ca).write_bytes(b"k" * 32)
    return Sealer(made)


def serving(fleet, device):
    wanted = fleet.order(device).slots["digits"]
    return Running(module="acme/digits:1", digest=wanted.digest)


@pytest.fixture
def fleet(tmp_path, database):
    found = Fleet(tmp_path, database)
    for name, site in (("dev-a", "berlin"), ("dev-b", "berlin"), ("dev-c", "lyon")):
        found.add_device(name, labels={"site": site})
    return found
