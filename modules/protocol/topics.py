"""Every MQTT topic, built and parsed in one place: ``<prefix>/<device>/{up,down}/...``.

A device may publish below its own ``up`` and read its own ``down`` and the shared branch; the broker enforces it.
"""

from typing import Final, NamedTuple

from modules.errors import Invalid
from modules.names import DeviceId, Digest, device_id, digest
from modules.protocol.telemetry import STREAMS

PREFIX: Final = "edgefleet/v1"
_SHARED: Final = "_shared"
_CLAIMS: Final = "_claims"
# Before a claim's id, in its certificate's name: no device's or service's name begins so.
CLAIM: Final = "claim:"


class Parsed(NamedTuple):
    """A topic taken apart: ``rest`` are the levels after ``up`` or ``down``, as ``("blob", "get")``."""

    device: DeviceId
    direction: str
    rest: tuple[str, ...]


class Topics:
    """Builds and parses topics below one prefix."""

    def __init__(self, prefix: str = PREFIX) -> None:
        if not prefix or prefix.startswith("/") or prefix.endswith("/") or any(c in prefix for c in "+#\0$"):
            raise Invalid(
                f"{prefix!r} is not a valid topic prefix", element="mqtt prefix", remedy="use levels as edgefleet/v1"
            )
        self.prefix = prefix

    def order(self, device: DeviceId) -> str:
        return self.down(device, "order")

    def ack(self, device: DeviceId) -> str:
        return self.down(device, "ack")

    def blob(self, device: DeviceId, request: int) -> str:
        return self.down(device, "blob", str(request))

    def shared_blob(self, name: Digest) -> str:
        """Where the blocks of a blob come that several devices pull; ``_`` cannot begin a device's name."""
        return f"{self.prefix}/{_SHARED}/blob/{name}"

    def of_shared_blob(self, topic: str) -> Digest | None:
        """The blob whose shared topic this is, None where it is another topic."""
        head = f"{self.prefix}/{_SHARED}/blob/"
        try:
            return digest(topic.removeprefix(head)) if topic.startswith(head) else None
        except Invalid:
            return None

    def claim_up(self, claim: str) -> str:
        """Where a device that joins over MQTT asks; ``claim`` is the id alone."""
        return f"{self.prefix}/{_CLAIMS}/{CLAIM}{claim}/up"

    def claim_down(self, claim: str) -> str:
        """Where it gets its answer."""
        return f"{self.prefix}/{_CLAIMS}/{CLAIM}{claim}/down"

    def all_claims(self) -> str:
        """What the fleet server subscribes to beside :meth:`all_up`."""
        return f"{self.prefix}/{_CLAIMS}/+/up"

    def of_claim(self, topic: str) -> str | None:
        """The id of the claim at whose ``up`` this is, None where it is another topic."""
        head, tail = f"{self.prefix}/{_CLAIMS}/", "/up"
        if not topic.startswith(head) or not topic.endswith(tail):
            return None
        name = topic.removeprefix(head).removesuffix(tail)
        return name.removeprefix(CLAIM) if name.startswith(CLAIM) and "/" not in name else None

    def blob_get(self, device: DeviceId) -> str:
        return self.up(device, "blob", "get")

    def report(self, device: DeviceId) -> str:
        return self.up(device, "report")

    def facts(self, device: DeviceId) -> str:
        return self.up(device, "facts")

    def status(self, device: DeviceId) -> str:
        return self.up(device, "status")

    def renewal(self, device: DeviceId) -> str:
        """Where a device asks for its next certificate."""
        return self.up(device, "enroll")

    def renewed(self, device: DeviceId) -> str:
        return self.down(device, "enroll")

    def telemetry(self, device: DeviceId, stream: str) -> str:
        return self.up(device, "telemetry", stream)

    def command(self, device: DeviceId, name: str, ident: str) -> str:
        return self.down(device, "cmd", name, ident)

    def answer(self, device: DeviceId) -> str:
        """One topic for all answers to commands: a device can leave one retained message here, and no more."""
        return self.up(device, "cmd")

    def retained(self, device: DeviceId) -> tuple[str, ...]:
        """Where the broker keeps the newest message of or for a device, or would if it said so."""
        streams = (self.telemetry(device, stream) for stream in STREAMS)
        said = (self.report(device), self.facts(device), self.status(device), self.renewal(device), self.answer(device))
        return self.order(device), *said, *streams

    def down(self, device: DeviceId, *rest: str) -> str:
        return "/".join((self.prefix, device, "down", *rest))

    def up(self, device: DeviceId, *rest: str) -> str:
        return "/".join((self.prefix, device, "up", *rest))

    def all_down(self, device: DeviceId) -> str:
        """What a device subscribes to."""
        return self.down(device, "#")

    def all_up(self) -> str:
        """What the fleet server subscribes to."""
        return f"{self.prefix}/+/up/#"

    def parse(self, topic: str) -> Parsed:
        """Take a device's topic apart.

        Raises:
            Invalid: another prefix, no device id, or neither up nor down.
        """
        head = self.prefix + "/"
        parts = topic.removeprefix(head).split("/")
        if not topic.startswith(head) or len(parts) < 3 or parts[1] not in {"up", "down"}:  # noqa: PLR2004 - levels
            raise Invalid("not a topic of a device", element=topic[:200])
        return Parsed(device_id(parts[0]), parts[1], tuple(parts[2:]))
