"""The fleet server over HTTPS: one method per route, errors as the tree in :mod:`modules.errors`."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from fleet.audit.chain import Entry
from fleet.client.answers import (
    AuditHeads,
    AutoRollout,
    Command,
    Device,
    Endpoint,
    Export,
    Given,
    Happening,
    Health,
    Join,
    Module,
    PendingDevice,
    Rollout,
    RolloutPlan,
    Telemetry,
)
from fleet.client.exchange import NOT_FOUND, Exchange
from modules.names import Digest, ModuleRef
from modules.protocol.enrollment import ClaimBundle, JoinBundle

_V1: Final = "/api/v1"
_PAGE: Final = 1000


class Result(NamedTuple):
    """Bytes that a device sent, and what they are: of the server's short list, whatever the device says."""

    content: str
    data: bytes


class Fleet(Exchange):
    """One fleet server, spoken to as one operator. Use it as a context manager.

    Every method raises:
        LinkLost: the server cannot be reached.
        Untrusted: its certificate is not from the pinned CA.
        EdgefleetError: what the server refused, of the class that the server raised.
    """

    # The server itself

    def health(self) -> Health:
        return self._decode(self._call("GET", "/healthz"), Health)

    # Modules

    def reserve_version(self, team: str, name: str) -> str:
        """The next version number of a module; nobody else gets it."""
        answer = self._call("POST", f"{_V1}/models/{team}/{name}/versions")
        return self._decode(answer, dict[str, str])["version"]

    def has_blob(self, digest: Digest) -> bool:
        return self._call("HEAD", f"{_V1}/blobs/{digest}", absent=True).status_code != NOT_FOUND

    def put_blob(self, digest: Digest, length: int, chunks: Iterator[bytes]) -> None:
        """Send a blob's bytes; the server hashes them itself and refuses others than ``digest`` names."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        self._call("PUT", f"{_V1}/blobs/{digest}", content=chunks, headers=headers)

    def get_blob(self, digest: Digest) -> Iterator[bytes]:
        """A blob's bytes as they arrive; whoever keeps them must hash them."""
        return self.get_bytes(f"{_V1}/blobs/{digest}")

    def put_draft(self, ref: ModuleRef, manifest: bytes) -> Module:
        """Register a manifest, all of whose blobs the server has; the same bytes again change nothing."""
        answer = self._call("PUT", _module(ref), content=manifest, headers={"Content-Type": "application/json"})
        return self._decode(answer, Module)

    def modules(self) -> list[Module]:
        return self._decode(self._call("GET", f"{_V1}/modules"), list[Module])

    def module(self, ref: ModuleRef) -> Module:
        return self._decode(self._call("GET", _module(ref)), Module)

    def manifest(self, ref: ModuleRef) -> bytes:
        """The bytes that were, or will be, signed."""
        return self._call("GET", f"{_module(ref)}/manifest").content

    def remove_module(self, ref: ModuleRef) -> None:
        """Take a module version out, unless something uses it."""
        self._call("DELETE", _module(ref))

    # Trust

    def tuf(self, name: str) -> bytes | None:
        """A metadata file, such as ``timestamp.json`` or ``2.root.json``; None where there is none."""
        answer = self._call("GET", f"{_V1}/tuf/{name}", absent=True)
        return None if answer.status_code == NOT_FOUND else answer.content

    def online_keys(self) -> dict[str, Any]:
        """The public parts of the keys that the server itself holds: snapshot, timestamp, director."""
        return self._decode(self._call("GET", f"{_V1}/tuf-online-keys"), dict[str, Any])

    def bootstrap(self, document: dict[str, Any]) -> None:
        """Give a new server its first root, targets, director and teams; bytes values travel as base64."""
        self._call("POST", f"{_V1}/tuf-bootstrap", json=msgspec.to_builtins(document))

    def add_team(self, team: str, *, targets: bytes, metadata: bytes) -> None:
        """Send the owner's new targets metadata, which names one more team, and that team's first metadata."""
        document = {"team": team, "targets": targets, "metadata": metadata}
        self._call("POST", f"{_V1}/tuf-teams", json=msgspec.to_builtins(document))

    def put_team(self, team: str, metadata: bytes) -> None:
        """Send a team's newly signed metadata; the server checks it and publishes what it lists."""
        headers = {"Content-Type": "application/json"}
        self._call("POST", f"{_V1}/tuf/teams/{team}", content=metadata, headers=headers)

    def put_team_files(self, team: str, files: Mapping[str, bytes]) -> None:
        """Send those of a team's files that are newly signed, by role; the server takes all of them or none."""
        document = {"files": dict(files)}
        self._call("POST", f"{_V1}/tuf/teams/{team}/files", json=msgspec.to_builtins(document))

    def staged_keys(self) -> dict[str, Any]:
        """The public parts of the keys that were made on the server and wait until the owner names them, by role."""
        return self._decode(self._call("GET", f"{_V1}/tuf-staged-keys"), dict[str, Any])

    def update_trust(self, document: dict[str, Any]) -> list[str]:
        """Send the next root, targets, director list and teams, taken together or not at all; the changed roles."""
        answer = self._call("POST", f"{_V1}/tuf-update", json=msgspec.to_builtins(document))
        return self._decode(answer, dict[str, list[str]])["changed"]

    # Devices

    def join_bundle(
        self, *, uses: int, expires_s: int, labels: dict[str, str] | None = None, approve: bool | None = None
    ) -> JoinBundle:
        """A bundle for so many devices, which get these labels; ``approve`` None: as the server's setting says."""
        wish = {"uses": uses, "expires_s": expires_s, "labels": labels or {}, "approve": approve}
        return self._decode(self._call("POST", f"{_V1}/join-tokens", json=wish), JoinBundle)

    def claim_bundle(
        self,
        device: str,
        *,
        expires_s: int,
        labels: dict[str, str] | None = None,
        approve: bool | None = None,
        readmit: bool = False,
    ) -> ClaimBundle:
        """A bundle with which this device joins over MQTT."""
        wish = {"device": device, "expires_s": expires_s, "labels": labels or {}}
        answer = self._call("POST", f"{_V1}/claims", json=wish | {"approve": approve, "readmit": readmit})
        return self._decode(answer, ClaimBundle)

    def readmit_device(self, device: str, *, expires_s: int, approve: bool | None = None) -> JoinBundle:
        """A bundle with which other hardware takes this device's name, once."""
        wish = {"expires_s": expires_s, "approve": approve}
        return self._decode(self._call("POST", f"{_V1}/devices/{device}/readmit", json=wish), JoinBundle)

    def joins(self) -> list[Join]:
        """The newest bundles and claims, newest first."""
        return self._decode(self._call("GET", f"{_V1}/joins"), list[Join])

    def revoke_join(self, join: int) -> dict[str, Any]:
        """Let nobody join by it any more."""
        return self._decode(self._call("DELETE", f"{_V1}/joins/{join}"), dict[str, Any])

    def pending_devices(self) -> list[PendingDevice]:
        """The devices that wait for approval, the longest first."""
        return self._decode(self._call("GET", f"{_V1}/pending"), list[PendingDevice])

    def approve_device(self, name: str, fingerprint: str) -> dict[str, str]:
        """Let the key with this fingerprint, which waits under this name, in."""
        answer = self._call("POST", f"{_V1}/pending/{name}/approve", json={"fingerprint": fingerprint})
        return self._decode(answer, dict[str, str])

    def reject_device(self, name: str, reason: str = "") -> dict[str, str]:
        """Never let the key in that waits under this name."""
        answer = self._call("POST", f"{_V1}/pending/{name}/reject", json={"reason": reason})
        return self._decode(answer, dict[str, str])

    def devices(self, **filters: Any) -> list[Device]:
        return self._decode(self._call("GET", f"{_V1}/devices", params=filters), list[Device])

    def device(self, device: str) -> Device:
        return self._decode(self._call("GET", f"{_V1}/devices/{device}"), Device)

    def label_device(self, device: str, labels: dict[str, str]) -> Device:
        """Replace the device's labels."""
        self._call("PATCH", f"{_V1}/devices/{device}", json={"labels": labels})
        return self.device(device)

    def remove_device(self, device: str) -> dict[str, str]:
        """Take a device out of the fleet; says whether the broker refuses its certificate from now on."""
        return self._decode(self._call("DELETE", f"{_V1}/devices/{device}"), dict[str, str])

    def revoke_device(self, device: str) -> dict[str, str]:
        """Take back a device's certificates; says whether the broker refuses them from now on."""
        return self._decode(self._call("POST", f"{_V1}/devices/{device}/revoke"), dict[str, str])

    def empty_slot(self, device: str, slot: str) -> dict[str, Any]:
        """Order the device to stop and forget what runs in a slot; ``waits_for`` says that it takes another person."""
        return self._decode(self._call("DELETE", f"{_V1}/devices/{device}/slots/{slot}"), dict[str, Any])

    def set_secret(self, request: dict[str, Any]) -> dict[str, Any]:
        """Seal a value to devices; ``request`` has name, slot, selector or devices, value in base64."""
        return self._decode(self._call("POST", f"{_V1}/secrets", json=request), dict[str, Any])

    def secrets(self) -> list[dict[str, Any]]:
        """Where each stands, without its value."""
        return self._decode(self._call("GET", f"{_V1}/secrets"), list[dict[str, Any]])

    def remove_secret(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._decode(self._call("POST", f"{_V1}/secrets/remove", json=request), dict[str, Any])

    # Endpoints in the cloud

    def attach_target(self, name: str, kind: str, attached: dict[str, Any]) -> dict[str, Any]:
        wanted = {"kind": kind, "attached": attached}
        return self._decode(self._call("PUT", f"{_V1}/targets/{name}", json=wanted), dict[str, Any])

    def bound_target(self, name: str, quota: dict[str, Any]) -> dict[str, Any]:
        return self._decode(self._call("PUT", f"{_V1}/targets/{name}/quota", json=quota), dict[str, Any])

    def targets(self) -> list[dict[str, Any]]:
        return self._decode(self._call("GET", f"{_V1}/targets"), list[dict[str, Any]])

    def check_target(self, name: str) -> dict[str, str]:
        return self._decode(self._call("POST", f"{_V1}/targets/{name}/check"), dict[str, str])

    def detach_target(self, name: str, *, abandon: bool = False) -> dict[str, str]:
        return self._decode(self._call("DELETE", f"{_V1}/targets/{name}", params={"abandon": abandon}), dict[str, str])

    def create_endpoint(self, request: dict[str, Any]) -> Endpoint:
        return self._decode(self._call("POST", f"{_V1}/endpoints", json=request), Endpoint)

    def endpoints(self) -> list[Endpoint]:
        return self._decode(self._call("GET", f"{_V1}/endpoints"), list[Endpoint])

    def endpoint(self, name: str) -> Endpoint | None:
        """None where there is none of this name."""
        answer = self._call("GET", f"{_V1}/endpoints/{name}", absent=True)
        return None if answer.status_code == NOT_FOUND else self._decode(answer, Endpoint)

    def change_endpoint(self, name: str, request: dict[str, Any]) -> Endpoint:
        """What the request leaves out stays as it is."""
        return self._decode(self._call("PATCH", f"{_V1}/endpoints/{name}", json=request), Endpoint)

    def remove_endpoint(self, name: str) -> dict[str, str]:
        return self._decode(self._call("DELETE", f"{_V1}/endpoints/{name}"), dict[str, str])

    def endpoint_keys(self, name: str) -> dict[str, str]:
        return self._decode(self._call("GET", f"{_V1}/endpoints/{name}/keys"), dict[str, str])

    def change_endpoint_key(self, name: str, which: str, key: str = "") -> dict[str, str]:
        """Both keys, one of them new."""
        answer = self._call("POST", f"{_V1}/endpoints/{name}/keys", json={"which": which, "key": key})
        return self._decode(answer, dict[str, str])

    def endpoint_token(self, name: str) -> dict[str, Any]:
        return self._decode(self._call("POST", f"{_V1}/endpoints/{name}/token"), dict[str, Any])

    def endpoint_logs(self, name: str, *, lines: int) -> dict[str, str]:
        answer = self._call("GET", f"{_V1}/endpoints/{name}/logs", params={"lines": lines})
        return self._decode(answer, dict[str, str])

    def answer(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """An answer that a module of its noun reads: ``batch_jobs.py``, ``fallbacks.py``."""
        return self._decode(self._call(method, f"{_V1}/{path}", json=body), Any)

    def events(self, *, limit: int, kind: str = "", device: str = "") -> list[Happening]:
        """The newest first; of a kind, or of a device."""
        asked = {"limit": limit, "kind": kind, "device": device}
        return self._decode(self._call("GET", f"{_V1}/events", params=asked), list[Happening])

    def audit(self, *, limit: int, by: str = "", action: str = "") -> list[Entry]:
        """The newest rows of the audit log first."""
        asked = {"limit": limit, "by": by, "action": action}
        return self._decode(self._call("GET", f"{_V1}/audit", params=asked), list[Entry])

    def audit_rows(self) -> Iterator[Entry]:
        """All rows of the audit log, in order."""
        after = 0
        while page := self._decode(self._call("GET", f"{_V1}/audit/rows", params={"after": after}), list[Entry]):
            yield from page
            after = page[-1].id

    def audit_heads(self) -> AuditHeads:
        """The signed heads of the audit log, and the key that the server says it signs them with."""
        return self._decode(self._call("GET", f"{_V1}/audit/heads"), AuditHeads)

    def export(self) -> Export:
        """The tables that can be exported."""
        return self._decode(self._call("GET", f"{_V1}/export"), Export)

    def exported(self, table: str) -> Iterator[list[dict[str, Any]]]:
        """The rows of a table, page by page."""
        place: str | None = f"{_V1}/export/{table}"
        while place is not None:
            answer = self._call("GET", place)
            yield self._read(answer, lambda data: msgspec.json.Decoder(dict[str, Any]).decode_lines(data))
            place = answer.links.get("next", {}).get("url")

    # Commands to devices

    def give_command(self, request: dict[str, Any]) -> Given:
        """Give one; ``request`` has name, device or selector, slot, arguments, expires_s."""
        return self._decode(self._call("POST", f"{_V1}/commands", json=request), Given)

    def commands(self, *, limit: int | None = None, **filters: Any) -> list[Command]:
        """The newest first: all that the filters mean (device, name, state, batch), or so many."""
        found: list[Command] = []
        asked = {name: value for name, value in filters.items() if value is not None}
        while limit is None or len(found) < limit:
            page = _PAGE if limit is None else min(_PAGE, limit - len(found))
            before = {"before": found[-1].number} if found else {}
            some = self._decode(
                self._call("GET", f"{_V1}/commands", params=asked | before | {"limit": page}), list[Command]
            )
            found += some
            if len(some) < page:
                break
        return found

    def command(self, ident: str, *, first: int = 1, wait_s: float = 0) -> Command:
        """A command with its parts from ``first`` on; with ``wait_s`` once that is there, or it is over."""
        asked = {"from": first, "wait_s": wait_s}
        return self._decode(self._call("GET", f"{_V1}/commands/{ident}", params=asked), Command)

    def command_result(self, ident: str, *, first: int = 1, last: int | None = None) -> Result:
        """What the device sent, from part ``first`` to ``last``."""
        asked = {"from": first} | ({} if last is None else {"to": last})
        answer = self._call("GET", f"{_V1}/commands/{ident}/result", params=asked)
        return Result(answer.headers.get("content-type", "").partition(";")[0], answer.content)

    def cancel_command(self, ident: str) -> Command:
        return self._decode(self._call("DELETE", f"{_V1}/commands/{ident}"), Command)

    # Rollouts

    def start_rollout(self, request: dict[str, Any], *, endpoint: str = "") -> Rollout:
        """Start a rollout: of devices, or of an endpoint's requests."""
        of = f"endpoints/{endpoint}/rollouts" if endpoint else "rollouts"
        return self._decode(self._call("POST", f"{_V1}/{of}", json=request), Rollout)

    def plan_rollout(self, request: dict[str, Any], *, endpoint: str = "") -> RolloutPlan:
        """What a rollout would do; nothing is started."""
        of = f"endpoints/{endpoint}/rollouts" if endpoint else "rollouts"
        return self._decode(self._call("POST", f"{_V1}/{of}/plan", json=request), RolloutPlan)

    def skip_device(self, rollout: str, device: str, why: str) -> Rollout:
        """Leave a device of a rollout out."""
        self._call("POST", f"{_V1}/rollouts/{rollout}/devices/{device}/skip", json={"why": why})
        return self.rollout(rollout)

    def add_auto_rollout(self, request: dict[str, Any], *, endpoint: str = "") -> AutoRollout:
        of = f"endpoints/{endpoint}/auto-rollouts" if endpoint else "auto-rollouts"
        return self._decode(self._call("POST", f"{_V1}/{of}", json=request), AutoRollout)

    def auto_rollouts(self) -> list[AutoRollout]:
        return self._decode(self._call("GET", f"{_V1}/auto-rollouts"), list[AutoRollout])

    def remove_auto_rollout(self, name: str) -> None:
        self._call("DELETE", f"{_V1}/auto-rollouts/{name}")

    def telemetry(self, device: str, *, stream: str | None = None, since: float | None = None) -> Telemetry:
        """What a device measured of itself: the newest, and since a moment in Unix seconds, where one is given."""
        asked = {name: value for name, value in (("stream", stream), ("since", since)) if value is not None}
        return self._decode(self._call("GET", f"{_V1}/devices/{device}/telemetry", params=asked), Telemetry)

    def rollouts(self) -> list[Rollout]:
        """All of them, the newest first."""
        found: list[Rollout] = []
        asked: dict[str, Any] = {"limit": _PAGE}
        while some := self._decode(self._call("GET", f"{_V1}/rollouts", params=asked), list[Rollout]):
            found += some
            asked["before"] = some[-1].id
        return found

    def rollout(self, rollout: str) -> Rollout:
        return self._decode(self._call("GET", f"{_V1}/rollouts/{rollout}"), Rollout)

    def steer_rollout(self, rollout: str, verb: str) -> Rollout:
        """``pause``, ``resume`` or ``cancel`` it."""
        self._call("POST", f"{_V1}/rollouts/{rollout}/{verb}")
        return self.rollout(rollout)


def _module(ref: ModuleRef) -> str:
    return f"{_V1}/modules/{ref.team}/{ref.name}/{ref.version}"
