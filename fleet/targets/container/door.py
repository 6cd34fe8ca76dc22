"""What the gateway's folder holds: who may come in, its certificate, the replicas to look at, and their samples."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fleet.targets.container.plan import PORT, Group, Seen
from fleet.targets.contract import Wanted
from modules.protocol.endpoint import CANDIDATES, CERTIFICATE, CERTIFICATE_KEY, KEYS, Candidate, Candidates
from modules.protocol.routing import Replica


def access(wanted: Wanted) -> dict[str, bytes]:
    """Without these it does not start."""
    settings = wanted.settings
    by_key = settings.auth != "token"
    known: dict[str, Any] = {
        # The index is for us alone where clients come with tokens.
        "keys": wanted.keys if by_key else (key(wanted, "gateway"),),
        "token_secret": b"" if by_key else wanted.token_secret,
        "open": settings.auth == "none",
        "cors_origins": settings.cors_origins,
    }
    if wanted.devices is not None:  # gateways of before do not know it
        known["devices"] = wanted.devices
    found = {KEYS: msgspec.json.encode(known)}
    if settings.certificate:
        found |= {CERTIFICATE: settings.certificate.encode(), CERTIFICATE_KEY: wanted.certificate_key.encode()}
    return found


def files(wanted: Wanted, groups: Sequence[Group], seen: Seen, samples: Mapping[str, bytes]) -> dict[str, bytes]:
    """All that belongs there beside the table; ``samples`` by the group's name, empty where there are none."""
    candidates = [
        Candidate(
            replica=Replica(
                url=f"http://{one.name}:{PORT}",
                module=group.module,
                provider="",
                instance=one.name,
                key=key(wanted, group.name),
            ),
            samples=_samples_file(group) if samples[group.name] else "",
            within_s=wanted.settings.answer_s,
        )
        for group in groups
        for one in seen.of(group)
        if one.running
    ]
    listed = {CANDIDATES: msgspec.json.encode(Candidates(replicas=tuple(candidates)))}
    asked = {_samples_file(group): samples[group.name] for group in groups if samples[group.name]}
    return access(wanted) | asked | listed


def key(wanted: Wanted, part: str) -> str:
    """A key of one part of the endpoint, which need not be stored."""
    return hmac.new(wanted.token_secret, f"{wanted.name}/{part}".encode(), hashlib.sha256).hexdigest()


def _samples_file(group: Group) -> str:
    return f"samples-{group.name}.json"
