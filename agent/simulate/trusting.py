"""The trust that all simulated devices share: metadata fetched and verified once, each order checked for its device.

A real device fetches and verifies the metadata at every order. Here that is done when an order names a release that is
not known yet, and now and then; the order's own signature, device, counter and digests are checked every time.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from securesystemslib.signer import Key

from agent.clock import BUILT
from agent.commands.rules import objections as against_command
from agent.fetch import Puller
from agent.trust_worker import TrustWorker
from modules import signing
from modules.errors import Untrusted
from modules.names import DeviceId, Digest, ModuleRef, Version
from modules.order_rules import Ordered, accept, objections
from modules.protocol import commands
from modules.protocol import order as order_wire
from modules.protocol.commands import Command
from modules.protocol.order import LIMIT, Order
from modules.trust.device import RoleMark, Target, Trust

_ANSWER_S: Final = 120.0
# So old metadata is fetched anew, and none that is younger than this.
_RENEW_S: Final = 300.0
_FRESH_S: Final = 1.0


class _Marks:
    """The highest versions seen, for as long as the simulator runs."""

    def __init__(self) -> None:
        self._marks: dict[str, RoleMark] = {}

    def marks(self) -> Mapping[str, RoleMark]:
        return self._marks

    def keep(self, marks: Mapping[str, RoleMark]) -> None:
        self._marks.update(marks)


class SharedTrust:
    """One view of the trust metadata; it asks through the device whose order needs it."""

    def __init__(self, folder: Path, root: bytes) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._worker = worker = TrustWorker(None, answer_s=_ANSWER_S)
        self._lock = asyncio.Lock()
        self._trust = Trust(folder, root=root, fetch=worker.fetch, read_target=worker.read_target, versions=_Marks())
        self._keys: Mapping[str, Key] = {}
        self._targets: dict[str, Target] = {}
        self._floors: dict[str, Version] = {}
        self._refreshed = float("-inf")

    def close(self) -> None:
        self._worker.close()

    async def accept(self, device: DeviceId, envelope: bytes, *, last: int, puller: Puller) -> Order:
        """The order, if the device may follow it; ``last`` is the counter of the newest that it has accepted.

        Raises:
            Untrusted, Invalid: it may not.
            Transient: the metadata could not be had; the same order may be tried again.
        """
        if time.monotonic() - self._refreshed > _RENEW_S:
            await self._refresh(puller)
        try:
            order = self._opened(envelope)
            known = all(self._knows(slot.manifest, slot.digest) for slot in order.slots.values())
        except Untrusted:
            known = False
        if not known:
            await self._refresh(puller)
            order = self._opened(envelope)
            await self._worker.run(lambda: self._learn(order))
        published = {path: target.sha256 for path, target in self._targets.items()}
        now = datetime.now(UTC)
        accept(
            objections(
                own=device,
                device=order.device,
                counter=order.counter,
                last_counter=last,
                issued=datetime.fromtimestamp(order.issued, UTC),
                expires=datetime.fromtimestamp(order.expires, UTC),
                now=max(now, BUILT),
                modules=[Ordered(slot.manifest, slot.digest) for slot in order.slots.values()],
                published=published,
                floors=self._floors,
            )
        )
        return order

    async def command(self, device: DeviceId, topic: tuple[str, str], envelope: bytes, *, puller: Puller) -> Command:
        """The command, if the device may follow it, as it came at a topic's name and id; raises as :meth:`accept`."""
        limit = commands.limit_of(topic[0])
        try:
            payload = self._of_director(envelope, limit)
        except Untrusted:
            await self._refresh(puller)
            payload = self._of_director(envelope, limit)
        command = commands.decode(payload)
        now = max(datetime.now(UTC), BUILT)
        accept(against_command(command, own=device, topic=topic, now=now, floor=0))
        return command

    def _of_director(self, envelope: bytes, limit: int) -> bytes:
        keys = self._keys.values()
        return signing.verify(envelope, payload_type=signing.COMMAND_TYPE, keys=keys, limit=limit)

    def length(self, manifest: str) -> int:
        """Bytes of a published manifest, by its path."""
        return self._targets[manifest].length

    def _opened(self, envelope: bytes) -> Order:
        signed = signing.opened(envelope, payload_type=signing.ORDER_TYPE, keys=self._keys.values(), limit=LIMIT)
        return order_wire.decode(signed.payload)

    def _knows(self, path: str, digest: Digest) -> bool:
        found = self._targets.get(path)
        return found is not None and found.sha256 == digest

    async def _refresh(self, puller: Puller) -> None:
        async with self._lock:
            if time.monotonic() - self._refreshed < _FRESH_S:
                return  # another device has just done it
            self._worker.puller = puller
            await self._worker.run(self._renew)
            self._refreshed = time.monotonic()

    def _renew(self) -> None:
        self._trust.refresh(max(datetime.now(UTC), BUILT))
        self._keys = self._trust.director_keys()
        self._look_up(list(self._targets))

    def _learn(self, order: Order) -> None:
        paths = [slot.manifest for slot in order.slots.values()]
        self._look_up([*self._targets, *paths])
        teams = {ModuleRef.from_target(path).team for path in paths}
        self._trust.require_current(max(datetime.now(UTC), BUILT), teams=teams)

    def _look_up(self, paths: list[str]) -> None:
        """What is published now; both tables change as a whole, for other devices' orders are being checked."""
        targets, floors = {}, {}
        for path in paths:
            ref = ModuleRef.from_target(path)
            if target := self._trust.manifest_target(path):
                targets[path] = target
            if floor := self._trust.floor(ref.team, ref.name):
                floors[f"{ref.team}/{ref.name}"] = floor
        self._targets, self._floors = targets, floors
