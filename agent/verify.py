"""Drives trust over what the link brings: the one path by which an order becomes something that the device will do.

python-tuf blocks, so trust lives in one worker thread; what it asks for comes over the link through the event loop.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from agent.clock import BUILT
from agent.fetch import OtherLength, Puller
from agent.seen_roles import SeenRoles
from agent.shelf import Shelf
from agent.store import Store
from agent.trust_worker import TrustWorker
from modules import signing
from modules.adjustable import check_data, check_fallback, check_secrets, check_settings
from modules.bounds import MAX_TIME
from modules.errors import LinkLost, Untrusted
from modules.manifest import LIMIT as MANIFEST_LIMIT
from modules.manifest import Manifest
from modules.names import DeviceId, Digest, ModuleRef
from modules.order_rules import Ordered, accept, believed_time, learned_time, objections
from modules.protocol import order as order_wire
from modules.protocol.order import LIMIT, Order
from modules.trust.device import RoleMark, Target, Trust

# The puller gives up by itself; on the slowest link after minutes.
_ANSWER_S: Final = 900.0
_SIGN_AGAIN: Final = "let its team sign the release again"
# The store's names for the times that directors' keys taught begin so.
LEARNED: Final = "time "


class Accepted(NamedTuple):
    """An order that the device will follow, with the manifests that it names."""

    order: Order
    manifests: dict[Digest, Manifest]
    # What is to be remembered before the order is followed: numbers of the store that never go back, and the versions
    # of the trust roles that it rests on.
    marks: dict[str, float]
    roles: Mapping[str, RoleMark] = {}


class Commanded(NamedTuple):
    """What stands in a command's envelope that a director key signed: by which keys, of which, and the time now."""

    payload: bytes
    signers: frozenset[str]
    director: frozenset[str]
    now: datetime


class _Checked(NamedTuple):
    order: Order
    published: dict[str, Target]
    signers: frozenset[str]
    known: datetime | None


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
        self._worker = worker = TrustWorker(puller, answer_s=_ANSWER_S)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._seen = seen = SeenRoles(store)
        self._trust = Trust(folder, root=root, fetch=worker.fetch, read_target=worker.read_target, versions=seen)

    def close(self) -> None:
        self._worker.close()

    async def accept(self, envelope: bytes) -> Accepted:
        """Verify an order and fetch the manifests that it names.

        Raises:
            Untrusted: it does not hold; the message has every reason.
            Invalid: it is no order, a manifest is none, or a setting is not adjustable.
            Transient: the link broke; the same order may be tried again.
        """
        with self._seen.held() as roles:
            return await self._accept(envelope, roles)

    async def _accept(self, envelope: bytes, roles: Mapping[str, RoleMark]) -> Accepted:
        clock = _time(self._now())
        checked = await self._worker.run(lambda: self._check(envelope, clock))
        order = checked.order
        manifests = {}
        for slot in order.slots.values():
            manifest, came = await self._manifest(slot.digest, checked.published[slot.manifest])
            manifests[slot.digest] = manifest
            if str(manifest.ref) != str(ModuleRef.from_target(slot.manifest)):
                raise Untrusted("the manifest names another module than its path", element=slot.manifest)
            check_settings(manifest, slot.settings)
            check_secrets(manifest, slot.secrets or ())
            cloud = slot.elsewhere
            check_data(manifest, cloud.region if cloud else None)
            check_fallback(cloud.url if cloud else None, (*manifest.fallback_hosts, *self._fallback_hosts))
            if came:  # not kept before, so that what is refused leaves nothing on this disk
                self._shelf.keep_manifest(slot.digest, came)
        learned = learned_time(clock=clock, built=BUILT, known=checked.known, issued=_time(order.issued))
        marks = {self._counter(key): float(order.counter) for key in checked.signers}
        marks |= {_clock(key): learned.timestamp() for key in checked.signers}
        return Accepted(order, manifests, marks, roles)

    async def command(self, envelope: bytes, *, limit: int, ask: Callable[[], bool]) -> Commanded:
        """Verify who signed a command, with the metadata that is here; its content is for the caller to judge.

        Args:
            envelope: as it came.
            limit: the most bytes of the command.
            ask: whether new metadata may be fetched, where it cannot be verified with what is here.

        Raises:
            Untrusted: no key signed it that the owner names as a director's, or the metadata has expired.
            Invalid: it is no envelope.
            LinkLost: there is no metadata here, and the link broke.
        """
        clock = _time(self._now())
        return await self._worker.run(lambda: self._check_command(envelope, clock, limit, ask))

    def _check_command(self, envelope: bytes, clock: datetime, limit: int, ask: Callable[[], bool]) -> Commanded:
        try:
            self._trust.load_offline()
            return self._signed_by_director(envelope, clock, limit)
        except (Untrusted, LinkLost) as here:
            if not ask():
                raise
            try:
                self._trust.refresh(max(clock, BUILT))
            except LinkLost:
                raise here from None  # what is known of it says more
        return self._signed_by_director(envelope, clock, limit)

    def _signed_by_director(self, envelope: bytes, clock: datetime, limit: int) -> Commanded:
        keys = self._trust.director_keys()
        signed = signing.opened(envelope, payload_type=signing.COMMAND_TYPE, keys=keys.values(), limit=limit)
        now = believed_time(clock=clock, built=BUILT, known=self._known(keys))
        self._trust.require_current(now)
        return Commanded(signed.payload, signed.keyids, frozenset(keys), now)

    def _known(self, keys: Iterable[str]) -> datetime | None:
        """The time that accepted orders of these keys have taught."""
        return max((_time(seen) for key in keys if (seen := self._store.number(_clock(key)))), default=None)

    def _check(self, envelope: bytes, clock: datetime) -> _Checked:
        """In the worker: fresh metadata, the director's signature, then the rules.

        What this device remembers of counter and time, it remembers of each director key; only the keys that the owner
        still names count. So whoever stole a key can spoil both for as long as that key is trusted, and no longer.
        """
        self._trust.refresh(max(clock, BUILT))
        keys = self._trust.director_keys()
        known = self._known(keys)
        now = believed_time(clock=clock, built=BUILT, known=known)
        signed = signing.opened(envelope, payload_type=signing.ORDER_TYPE, keys=keys.values(), limit=LIMIT)
        order = order_wire.decode(signed.payload)
        published, floors, teams = {}, {}, set()
        for slot in order.slots.values():
            ref = ModuleRef.from_target(slot.manifest)
            teams.add(ref.team)
            if target := self._trust.manifest_target(slot.manifest):
                published[slot.manifest] = target
            if floor := self._trust.floor(ref.team, ref.name):
                floors[f"{ref.team}/{ref.name}"] = floor
        self._trust.require_current(now, teams=teams)
        accept(
            objections(
                own=self._device,
                device=order.device,
                counter=order.counter,
                last_counter=int(max((self._store.number(self._counter(key)) for key in keys), default=0)),
                issued=_time(order.issued),
                expires=_time(order.expires),
                now=now,
                modules=[Ordered(slot.manifest, slot.digest) for slot in order.slots.values()],
                published={path: target.sha256 for path, target in published.items()},
                floors=floors,
            )
        )
        return _Checked(order, published, signed.keyids, known)

    def _counter(self, key: str) -> str:
        """The store's name for the highest counter accepted from a key; under a new name, a device counts anew."""
        return f"counter {self._device} {key}"

    async def _manifest(self, digest: Digest, target: Target) -> tuple[Manifest, bytes]:
        """The manifest, and its bytes if they came just now."""
        if target.length > MANIFEST_LIMIT:
            raise Untrusted(f"a manifest of {target.length} bytes is too large", element=digest)
        if target.length <= 0:
            raise Untrusted(f"no manifest has {target.length} bytes", element=digest, remedy=_SIGN_AGAIN)
        try:
            return self._shelf.manifest(digest), b""
        except Untrusted:  # not there, or damaged
            came = await self._manifest_bytes(digest, target.length)
            return self._shelf.read_manifest(digest, came), came

    async def _manifest_bytes(self, digest: Digest, length: int) -> bytes:
        """What the server has under this digest, if it is as long as was signed.

        Raises:
            Untrusted: these are the right bytes, and another length was signed: no server can ever give what was.
        """
        try:
            return await self._puller.small(digest, length, urgent=True)
        except OtherLength as other:
            if other.said > MANIFEST_LIMIT:
                raise
            came = await self._puller.small(digest, other.said, urgent=True)
            raise Untrusted(
                f"the manifest has {len(came)} bytes, and {length} were signed", element=digest, remedy=_SIGN_AGAIN
            ) from other


def _clock(key: str) -> str:
    """The store's name for the time that a key taught."""
    return f"{LEARNED}{key}"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(max(seconds, 0.0), MAX_TIME), UTC)
