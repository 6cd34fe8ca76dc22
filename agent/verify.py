"""Drives trust over what the link brings: the one path by which an order becomes something that the device will do.

python-tuf blocks, so trust lives in one worker thread; what it asks for comes over the link through the event loop.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from agent.fetch import Missing, Puller
from agent.shelf import Shelf
from agent.store import Store
from modules import signing
from modules.adjustable import check_fallback, check_settings
from modules.errors import LinkLost, TransferStalled, Untrusted
from modules.manifest import LIMIT as MANIFEST_LIMIT
from modules.manifest import Manifest
from modules.names import DeviceId, Digest, ModuleRef
from modules.order_rules import Ordered, accept, believed_time, learned_time, objections
from modules.protocol import order as order_wire
from modules.protocol.order import LIMIT, Order
from modules.trust.device import Target, Trust

T = TypeVar("T")

# No trusted time is before the day this agent was written.
BUILT: Final = datetime(2026, 11, 21, tzinfo=UTC)
_ANSWER_S: Final = 60.0


class Accepted(NamedTuple):
    """An order that the device will follow, with the manifests that it names."""

    order: Order
    manifests: dict[Digest, Manifest]


class Verifier:
    """Accepts orders, or says why not."""

    def __init__(
        self,
        *,
        device: DeviceId,
        folder: Path,
        root: bytes,
        store: Store,
        shelf: Shelf,
        puller: Puller,
        fallback_hosts: tuple[str, ...] = (),
        now: Callable[[], float],
    ) -> None:
        self._device = device
        self._store = store
        self._shelf = shelf
        self._puller = puller
        self._fallback_hosts = fallback_hosts
        self._now = now
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="trust")
        self._loop = asyncio.get_running_loop()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._trust = Trust(
            folder, root=root, fetch=self._fetch_metadata, read_target=self._read_target, versions=store
        )

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def accept(self, envelope: bytes) -> Accepted:
        """Verify an order and fetch the manifests that it names.

        Raises:
            Untrusted: it does not hold; the message has every reason.
            Invalid: it is no order, a manifest is none, or a setting is not adjustable.
            Transient: the link broke; the same order may be tried again.
        """
        now = self._believed()
        order, published = await self._in_worker(lambda: self._check(envelope, now))
        manifests = {}
        for slot in order.slots.values():
            target = published[slot.manifest]
            manifests[slot.digest] = await self._manifest(slot.digest, target)
            if str(manifests[slot.digest].ref) != str(ModuleRef.from_target(slot.manifest)):
                raise Untrusted("the manifest names another module than its path", element=slot.manifest)
            check_settings(manifests[slot.digest], slot.settings)
            check_fallback(slot.fallback, (*manifests[slot.digest].fallback_hosts, *self._fallback_hosts))
        learned = learned_time(
            clock=_time(self._now()), built=BUILT, known=self._known_time(), issued=_time(order.issued)
        )
        with self._store.together():
            self._store.raise_number("order", order.counter)
            self._store.raise_number("time", learned.timestamp())
        return Accepted(order, manifests)

    def _check(self, envelope: bytes, now: datetime) -> tuple[Order, dict[str, Target]]:
        """In the worker: fresh metadata, the director's signature, then the rules."""
        self._trust.refresh(now)
        keys = self._trust.director_keys()
        payload = signing.verify(envelope, payload_type=signing.ORDER_TYPE, keys=keys.values(), limit=LIMIT)
        order = order_wire.decode(payload)
        published, floors = {}, {}
        for slot in order.slots.values():
            if target := self._trust.manifest_target(slot.manifest):
                published[slot.manifest] = target
            ref = ModuleRef.from_target(slot.manifest)
            if floor := self._trust.floor(ref.team, ref.name):
                floors[f"{ref.team}/{ref.name}"] = floor
        accept(
            objections(
                own=self._device,
                device=order.device,
                counter=order.counter,
                last_counter=int(self._store.number("order")),
                issued=_time(order.issued),
                expires=_time(order.expires),
                now=now,
                modules=[Ordered(slot.manifest, slot.digest) for slot in order.slots.values()],
                published={path: target.sha256 for path, target in published.items()},
                floors=floors,
            )
        )
        return order, published

    async def _manifest(self, digest: Digest, target: Target) -> Manifest:
        if target.length > MANIFEST_LIMIT:
            raise Untrusted(f"a manifest of {target.length} bytes is too large", element=digest)
        try:
            return self._shelf.manifest(digest)
        except Untrusted:  # not there, or damaged
            return self._shelf.keep_manifest(digest, await self._puller.small(digest, target.length))

    def _believed(self) -> datetime:
        return believed_time(clock=_time(self._now()), built=BUILT, known=self._known_time())

    def _known_time(self) -> datetime | None:
        known = self._store.number("time")
        return _time(known) if known else None

    async def _in_worker(self, call: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._worker, call)

    def _fetch_metadata(self, name: str, limit: int) -> bytes | None:
        """What trust asks for, from its thread; None where the server says that there is none."""
        try:
            data = self._wait(self._puller.metadata(name))
        except Missing:
            return None
        if len(data) > limit:
            raise Untrusted(f"{len(data)} bytes are more than the {limit} allowed", element=name)
        return data

    def _read_target(self, _path: str, digest: Digest, length: int) -> bytes:
        return self._wait(self._puller.small(digest, length))

    def _wait(self, call: Coroutine[None, None, bytes]) -> bytes:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(_ANSWER_S)
        except Missing:
            raise
        except (TransferStalled, TimeoutError) as error:
            future.cancel()
            raise LinkLost(f"trust metadata did not come: {error}", element="fleet server") from error


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
