"""A fleet of two groups of devices and two teams, as rows: each thing has its word of ``marks.py`` in it."""

from typing import Final

import msgspec
from cryptography.hazmat.primitives import serialization
from sqlalchemy import insert, update

from fleet import events, removal
from fleet.audit import log as audit_log
from fleet.command_tables import commands
from fleet.people import operators, passwords, roles
from fleet.people.roles import Grant
from fleet.rollouts import auto
from fleet.rollouts.model import Policy
from fleet.rollouts.start import Wish
from fleet.secret_tables import secret_wishes, secrets
from fleet.tables import history, joins, members, pending, rollouts, sessions
from fleet.tables import operators as operator_rows
from fleet.tables import tokens as token_rows
from modules import manifest as manifests
from modules.digests import sha256
from modules.names import ModuleRef, Slug, Version
from modules.protocol.report import Reason
from tests.doubles.device import HOST_FACTS
from tests.doubles.fleet_rows import SmallFleet, slot_report
from tests.doubles.publisher import module

PASSWORD: Final = "turquoise walrus 7 lantern"
OURS, THEIRS, TEAM = "site=berlin", "site=paris", "acme"
FINGERPRINT: Final = "ab" * 32
_DAY_S: Final = 86_400


class Planted:
    """The fleet; ``numbers`` are its rollouts, ``given`` its commands by device, ``next`` a manifest for a draft."""

    def __init__(self, folder, database) -> None:
        self.database = database
        self.fleet = SmallFleet(folder, database)
        self.now = self.fleet.now
        self.hash = passwords.Passwords().hashed(PASSWORD)
        self._plant_devices()
        self.blob = sha256(b"quagga-blob")
        self.numbers = self._rollouts(*self._modules())
        self.given = self._commands()
        with database.write() as connection:
            self._happened(connection)
            self._rules(connection)
            self.token = self._people(connection)
            self.join = self._joining(connection)
            self._secrets(connection)

    def _plant_devices(self) -> None:
        for name in ("berlin-1", "berlin-2"):
            self.fleet.add_device(name, labels={"site": "berlin", "note": "quagga-ours"})
        host = msgspec.structs.replace(HOST_FACTS, cpu_model="quagga-cpu")
        for name in ("quagga-near", "quagga-far", "quagga-gone"):
            self.fleet.add_device(name, labels={"site": "paris", "note": "quagga-label"}, host=host)
        self.fleet.add_device("quagga-misfit", labels={"site": "paris"}, host=None)

    def _modules(self) -> tuple[ModuleRef, ModuleRef, ModuleRef]:
        """One of ours, and two of the other team, of which no device has heard of the second."""
        ours = self.fleet.add_module("linear", description="quagga-manifest", more={"readme": b"quagga-blob"})
        self.fleet.add_module("draft", sign_it=False)
        upcoming = module("acme", "linear", "2", {"model.onnx": b"graph of linear"})
        self.next = msgspec.json.decode(manifests.encode(upcoming))
        theirs = []
        with self.database.write() as connection:
            for name in ("linear", "quagga-model"):
                made = module("zebra", name, "1", {"model.onnx": b"graph of linear"}, description="quagga-words")
                data = manifests.encode(made)
                self.fleet.registry.draft(connection, self.now, made.ref, data)
                self.fleet.registry.sign(connection, made.ref, sha256(data), len(data))
                theirs.append(made.ref)
        return ours, *theirs

    def _rollouts(self, ours: ModuleRef, zebra: ModuleRef, unheard: ModuleRef) -> dict[str, int]:
        numbers = {
            "both": self.fleet.start(ours, slot=Slug("both")),
            "theirs": self.fleet.start(ours, slot=Slug("theirs"), selector=THEIRS),
            "mine": self.fleet.start(ours, slot=Slug("mine"), selector=OURS),
            "zebra": self.fleet.start(zebra, slot=Slug("zebra")),
            "later": self.fleet.start(unheard, slot=Slug("later"), policy=Policy(approval=True)),
        }
        self.fleet.publish()
        for name, why in (("quagga-near", "quagga-reason"), ("quagga-far", "quagga-reason"), ("berlin-1", "it broke")):
            said = slot_report(self.fleet, name, "reverted", slot="both", reason=Reason(code="unfit", message=why))
            self.fleet.send(name, [said], order=self.fleet.order(name).counter)
            self.fleet.measured(name, 1)
        return numbers

    def _commands(self) -> dict[str, str]:
        given, _ = self.fleet.give("diagnose", selector="*")
        for device, brought in (("berlin-1", b"quagga-log"), ("quagga-near", b"quagga-remote")):
            command = self.fleet.signed_command(given[device])
            answer = self.fleet.answer(command, 1, "done", content="text/plain", data=brought)
            self.fleet.ingest.commit([answer])
        with self.database.write() as connection:
            mine = commands.c.device == "berlin-2"
            connection.execute(update(commands).where(mine).values(by="quagga-ordered"))
        return given

    def _happened(self, connection) -> None:
        removal.remove_device(connection, self.now, "quagga-gone")
        events.record(connection, self.now, "trouble", "quagga-event", device="quagga-far")
        events.record(connection, self.now, "trouble", "quagga-seen", device="berlin-2")
        events.record(connection, self.now, "trouble", "quagga-fleet")
        audit_log.add(connection, self.now, by="somebody", action="DELETE /", target="quagga-target")
        happened = {"mine": "quagga-started", "both": "quagga-history", "theirs": "quagga-history"}
        for name, what in (happened | {"zebra": "quagga-past", "later": "quagga-past"}).items():
            connection.execute(insert(history).values(rollout=self.numbers[name], at=self.now, what=what))
        shared = rollouts.c.id.in_([self.numbers["both"], self.numbers["theirs"]])
        connection.execute(update(rollouts).where(shared).values(waits_for="quagga-waits", started_by="quagga-starter"))
        zebra = members.c.rollout.in_([self.numbers["zebra"], self.numbers["later"]])
        connection.execute(update(members).where(zebra).values(note="quagga-note"))

    def _rules(self, connection) -> None:
        of = {"quagga-rule": ("acme", THEIRS), "quagga-watch": ("zebra", OURS), "ours": ("acme", OURS)}
        for name, (team, selector) in of.items():
            ref = ModuleRef(Slug(team), Slug("linear"), Version.parse("0"))
            wish = Wish(module=ref, slot=Slug("auto"), selector=selector)
            auto.add(connection, self.now, auto.Rule(name=Slug(name), wish=wish))

    def _people(self, connection) -> int:
        """Bert, whose password is known, and somebody whose hashes are; the number of that one's token."""
        hashes = {"bert": self.hash, "quagga-operator": "quagga-password"}
        for name, password in hashes.items():
            row = {"name": name, "roles": roles.plain((Grant("viewer"),)), "created": self.now}
            connection.execute(insert(operator_rows).values(**row, password=password))
        owner = operators.get(connection, "quagga-operator").id
        row = {"kind": "api", "hash": "quagga-hash", "role": "viewer", "name": "quagga-token", "operator": owner}
        made = connection.execute(insert(token_rows).values(**row, created=self.now)).inserted_primary_key
        lasts = {"created": self.now, "seen": self.now, "ends": self.now + _DAY_S}
        connection.execute(insert(sessions).values(hash="quagga-session", operator=owner, **lasts))
        return int(made[0])

    def _joining(self, connection) -> int:
        """A bundle, and a key that waits under it; the bundle's number."""
        row = {"created": self.now, "expires": self.now + _DAY_S, "uses": 5, "uses_left": 4, "approve": True}
        row |= {"hash": "quagga-bundle", "labels": {"note": "quagga-join"}}
        join = connection.execute(insert(joins).values(**row)).inserted_primary_key[0]
        key = self.fleet.keys["quagga-gone"].public_key()
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        row = {"name": "newcomer-1", "fingerprint": FINGERPRINT, "public_key": pem.decode(), "join": join}
        row |= {"since": self.now, "expires": self.now + _DAY_S, "state": "waiting", "address": "quagga-address"}
        connection.execute(insert(pending).values(**row))
        return int(join)

    def _secrets(self, connection) -> None:
        row = {"slot": "mine", "name": "quagga-secret", "version": 1, "at": self.now}
        connection.execute(insert(secrets).values(**row, device="berlin-1", sealed=b"quagga-sealed", sealed_to=b""))
        connection.execute(insert(secret_wishes).values(**row, selector="*"))
