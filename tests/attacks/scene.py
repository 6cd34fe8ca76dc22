"""One fleet with one device behind a hostile broker: what a row of the attack table needs to attack, and to look at.

``Scene`` is the real server, a real mosquitto, ``hostile`` (tests/attacks/hostile.py) between that and the real agent
with its gateway, and ``publisher``, who holds the offline keys and the team's. Modules run by the process engine and
answer ``x + value``, so an answer says whose it is. A row goes like this:

    envelope = scene.start(scene.release())       # the server orders it, and the order was on its way
    refusal = scene.verdict(envelope)             # what the device made of it: its reason, or "" where it follows it
    scene.unharmed("below-floor")                 # what runs, what is reported, what is on the disk
    scene.goes_on()                               # nobody meddles any more: the next honest order is followed

``unharmed`` is the same look for every row: one module runs, the committed one, and answers as it must; the server's
newest report says so, and names the reason; nothing lies on the disk that was not signed by whom it should be. What an
attacker would have the device run (``evil``) the hostile broker offers with all its bytes, so that nothing but the
device's own checks keeps it out.
"""

import base64
import itertools
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from securesystemslib.signer import CryptoSigner

from agent.store import Store
from modules import canonical, signing
from modules import manifest as manifests
from modules.digests import sha256
from modules.manifest import Manifest, Needs, Proof
from modules.names import Digest
from modules.protocol.order import LIMIT as ORDER_LIMIT
from modules.protocol.order import Order, SlotOrder
from modules.protocol.report import Refusal
from modules.signing import ORDER_TYPE, sign, signer_from_pem
from modules.trust.metadata import version
from modules.trust.roles import file_name
from tests.attacks.hostile import HostileBroker
from tests.doubles.publisher import Publisher, checked, module
from tests.parts.on_device import OnDevice
from tests.parts.programs import until
from tests.parts.system import System

SLOT = "main"
EVIL = 666.0
NAME = "sums"
_ASKED = b'{"data": [1.0]}'


def graph(value: float) -> bytes:
    """A graph that answers ``x + value``."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y"))
    more = numpy_helper.from_array(np.array([value], np.float32), "more")
    made = helper.make_graph([helper.make_node("Add", ["x", "more"], ["y"])], "sum", [x], [y], [more])
    built = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(built.SerializeToString())


class Scene:
    """``current`` is the manifest that serves, ``value`` what it adds."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.system = System(folder)
        stack.callback(self.system.close)
        self.hostile = stack.enter_context(HostileBroker(self.system.data, self.system.broker))
        self.http = stack.enter_context(self.system.server.client())
        self.publisher = Publisher(self.http)
        self.publisher.found()
        self.system.cli(
            "login", self.system.server.url, "--token", self.system.server.token, "--ca", self.system.data.ca
        )
        self._values, self._orders = itertools.count(1), itertools.count()
        self._of: dict[Digest, float] = {}
        self._signed: set[str] = set()
        self._parts = stack
        self.device = self.join("dev-attacked")
        self.current, self.value = self.release(), 1.0
        self.goes_on(self.current)

    def join(self, name: str) -> OnDevice:
        """A device behind the hostile broker, enrolled and started."""
        device = OnDevice(
            self.system,
            name,
            engine="/nonexistent.sock",
            process_interpreter=sys.executable,
            block_timeout_s="1",
            block_tries="2",
            telemetry_every_s="0",
        )
        self.hostile.device = device.name
        device.enroll(through=self.hostile.port)
        self._parts.callback(device.command, "halt")
        self._parts.callback(device.agent.stop)
        self._parts.callback(device.gateway.stop)
        device.start()
        return device

    # What the honest do

    def release(self, *, name: str = NAME, sign: bool = True) -> Manifest:
        """A new version, uploaded and signed by its team."""
        value = float(next(self._values))
        manifest = self.publisher.upload(name, {"model.onnx": graph(value)}, **_PARTS)
        self._of[digest(manifest)] = value
        if sign:
            self.publisher.sign(manifest)
            self._signed |= {digest(manifest), *(entry.sha256 for entry in manifest.files)}
        return manifest

    def start(self, manifest: Manifest) -> bytes:
        """Roll it out; returns the server's order, once the broker has it."""
        before = self.hostile.last("down", "/down/order")
        body = {"module": str(manifest.ref), "slot": SLOT, "devices": [self.device.name], "engine": "process"}
        self.rollout = checked(self.http.post("/api/v1/rollouts", json=body | {"supersede": True})).json()["id"]
        path = manifest.ref.target.encode()
        return self.until(
            lambda: (
                (now := self.hostile.last("down", "/down/order")) != before and now and path in _payload(now) and now
            ),
            "the server's order is on its way",
        )

    def sends_team(self, metadata: bytes) -> None:
        """Let the server have what the team has signed."""
        checked(self.http.post(f"/api/v1/tuf/teams/{self.publisher.team}", content=metadata))
        self.publisher.metadata = metadata

    def adds_team(self, team: str, targets: bytes, metadata: bytes) -> None:
        """One more team, as its owner and it have signed."""
        named = {"targets": targets, "metadata": metadata}
        body = {name: base64.b64encode(data).decode() for name, data in named.items()}
        checked(self.http.post("/api/v1/tuf-teams", json=body | {"team": team}))

    def owner_says(
        self, files: Mapping[str, bytes], *, director: bytes = b"", keys: Mapping[str, CryptoSigner] | None = None
    ) -> None:
        """The owner's new root or targets by role, and the server's new keys: there is no command for it yet.

        So it is put where such a command will put it. The server, started again, ties it together with the next
        release. ``director`` is the list of directors that new targets name.
        """
        if director:
            checked(self.http.put(f"/api/v1/blobs/{sha256(director)}", content=director))
        self.system.stop_server()
        with closing(sqlite3.connect(self.system.data.database)) as rows, rows:
            for role, data in files.items():
                rows.execute("INSERT INTO tuf_metadata VALUES (?, ?, ?)", (role, version(data, role), data))
        for role, signer in (keys or {}).items():
            self.system.data.online_key(role).write_bytes(signer.private_bytes)
        self.system.start_server()

    def goes_on(self, manifest: Manifest | None = None, *, again: bytes = b"", overtakes: bool = True) -> None:
        """Nobody meddles any more: the next release, or this one, is ordered and served.

        ``again`` is an order that was refused or kept back, and now comes once more, as with the next session. With
        ``overtakes`` the server first signs versions newer than those that a thief of its keys has shown the device.
        """
        self.hostile.honest()
        roles = ("timestamp", "snapshot") if overtakes else ()
        while any(version(self.file(role), role) <= self.seen(role) for role in roles):
            self.release()
        manifest = manifest or self.release()
        if again:
            self.hostile.say("order", again)
        else:
            self.start(manifest)
        self.serves(manifest)

    def serves(self, manifest: Manifest) -> None:
        """Returns when this module is committed and answers, and the server has been told."""
        value = self._of[digest(manifest)]
        self.until(lambda: self.device.phase(SLOT) == "committed" and self.answer() == value, f"{manifest.ref} serves")
        self.current, self.value = manifest, value
        self.until(lambda: self.serving() == str(manifest.ref), "the server is told")
        self.until(lambda: self.running() == {digest(manifest)}, "the one before has ended")

    # What the hostile have

    def stolen(self, role: str) -> CryptoSigner:
        """One of the server's own keys: director, snapshot or timestamp."""
        return signer_from_pem(self.system.data.online_key(role).read_bytes())

    def file(self, role: str) -> bytes:
        """The newest metadata of a role that the server publishes."""
        return self.http.get(f"/api/v1/tuf/{role}.json").raise_for_status().content

    def published(self) -> dict[str, bytes | None]:
        """All that the server publishes now but root, by name."""
        files = {role: self.file(role) for role in ("targets", "snapshot", "timestamp", f"team-{self.publisher.team}")}
        return {file_name(role, version(data, role)): data for role, data in files.items()}

    def evil(self, *, team: str = "acme", name: str = NAME, version: str = "999") -> Manifest:
        """A module that nobody published; the hostile broker has all of it."""
        files = {"model.onnx": graph(EVIL)}
        made = module(team, name, version, files, **_PARTS)
        self.hostile.blobs |= {digest(made): manifests.encode(made), made.files[0].sha256: files["model.onnx"]}
        return made

    def hands_over(self, manifest: Manifest) -> None:
        """The hostile broker has a published module, too: the server gives a device only what it ordered."""
        file = manifest.files[0].sha256
        self.hostile.blobs |= {digest(manifest): manifests.encode(manifest), file: graph(self._of[digest(manifest)])}

    def order(self, manifest: Manifest, *signers: CryptoSigner, **more: Any) -> bytes:
        """An order for it that comes after the last accepted one; signed by the director's stolen key unless told.

        ``more`` are other fields of the order; ``path`` and ``digest`` say another manifest.
        """
        path, wanted = more.pop("path", manifest.ref.target), more.pop("digest", digest(manifest))
        now = int(time.time())
        fields = {
            "device": self.device.name,
            "counter": self.counter() + 1,
            "issued": now,
            "expires": now + 3600 + next(self._orders),  # so that no two are the same
            "slots": {SLOT: SlotOrder(manifest=path, digest=wanted, engine="process")},
        }
        payload = canonical.encode(Order(**fields | more))
        return sign(payload, payload_type=ORDER_TYPE, signers=signers or [self.stolen("director")])

    def seen(self, role: str) -> int:
        """The highest version of a role that the device has seen."""
        with self.store() as store:
            mark = store.marks().get(role)
            return mark.version if mark else 0

    def counter(self) -> int:
        """The number of the order that the device follows."""
        with self.store() as store:
            return int(store.number("order"))

    # What the device makes of it

    def given(self, envelope: bytes) -> str:
        """Send the device an order, and return its :meth:`verdict`."""
        self.hostile.say("order", envelope)
        return self.verdict(envelope)

    def verdict(self, envelope: bytes) -> str:
        """What the device made of an order: why it was refused, as it remembers it; ``""``: it follows it."""
        found = self.until(lambda: self.judged(envelope), "the device has judged the order")
        return "" if found is True else f"{found.reason.code}: {found.reason.message}"

    def unharmed(self, *reasons: str) -> None:
        """What runs, what is reported and what is on the disk are as before, and the reasons were reported."""
        self.runs_only(self.current)
        for words in reasons:
            self.reported(words)
        slots = self.system.report(self.device.name)["slots"]
        assert [(one["slot"], one["serving"]["module"]) for one in slots] == [(SLOT, str(self.current.ref))]
        assert self.unsigned() == []

    def runs_only(self, manifest: Manifest) -> None:
        """One module runs, this one, and it answers."""
        assert self.running() == {digest(manifest)}
        assert self.answer() == self._of.get(digest(manifest), EVIL)

    def reported(self, words: str) -> dict[str, Any]:
        """The refusal with these words in the newest report that the server has."""

        def look() -> Any:
            refusals = self.system.report(self.device.name).get("refusals", ())
            return next((one for one in reversed(refusals) if words in one["reason"]["message"]), None)

        found: dict[str, Any] = self.until(look, f"the server is told: {words}")
        return found

    def serving(self) -> str:
        """The module that is committed and serves, as the newest report at the server says; empty where none is."""
        slots = self.system.report(self.device.name).get("slots") or [{}]
        healthy = slots[0].get("phase") == "committed" and slots[0].get("serving")
        return str(healthy["module"]) if healthy else ""

    def answer(self) -> float | None:
        """What the gateway's answer says was added to 1; None where nobody answers."""
        try:
            reply = self.device.score(SLOT, _ASKED)
        except OSError:
            return None
        return json.loads(reply.body)["y"][0] - 1.0 if reply.status == 200 else None

    def running(self) -> set[str]:
        """The digests of the modules that run."""
        return set(self.processes().values())

    def processes(self) -> dict[int, str]:
        """The digests of all modules that run out of this device's state folder, whoever started them, by process."""
        return self.device.processes()

    def honest_answer(self) -> bool:
        """Whether what answers is a module that its team signed."""
        return self.answer() in {self._of[one] for one in self._of.keys() & self._signed}

    def unsigned(self) -> list[str]:
        """Files of modules and blobs that were not signed by whom they should be; one begun and still empty is none."""
        found = []
        for folder in ("modules", "blobs"):
            for path in sorted((self.device.state / folder).rglob("*")):
                try:
                    data = path.read_bytes()
                except (FileNotFoundError, IsADirectoryError):  # it has its last name by now
                    continue
                begun = path.suffix == ".part" and not data.strip(b"\0")
                if not begun and sha256(data) not in self._signed:
                    found.append(str(path.relative_to(self.device.state)))
        return found

    def until(self, look: Any, what: str, *, within_s: float = 60.0) -> Any:
        return until(look, what, within_s=within_s, said=self.device.said)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The device's memory, read beside the agent."""
        store = Store(self.device.state, read_only=True)
        try:
            yield store
        finally:
            store.close()

    def judged(self, envelope: bytes) -> Refusal | bool:
        """The refusal of an order; True where it is followed, False where nothing was decided yet."""
        name = f"order {sha256(envelope)[7:19]}"
        with self.store() as store:
            if store.document("order") == envelope:
                return True
            return next((one for one in store.refusals() if one.what == name), False)


def digest(manifest: Manifest) -> Digest:
    return sha256(manifests.encode(manifest))


def _payload(envelope: bytes) -> bytes:
    return signing.unverified(envelope, limit=ORDER_LIMIT)


_PARTS: Any = {"needs": Needs(memory_mb=16), "proof": Proof(prove="ready-only", probation_s=0.5)}


@contextmanager
def scene() -> Iterator[Scene]:
    """One for the tests of a file; its folder is short, because sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="efa-") as folder, ExitStack() as stack:
        yield Scene(Path(folder), stack)
