"""What a group's pods are told of their module: a Secret, which is what the fleet's own side says of it each time."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from fleet.targets.contract import Job, Module
from fleet.targets.kubernetes.attached import SYSTEM, Attached
from modules.errors import BadSettings
from modules.names import Slug
from modules.protocol import content
from modules.protocol.content import SETTINGS, Content


class Contents(Protocol):
    """``fleet/targets/content.py``, as far as a target needs it. What it says changes only when it has to."""

    def of(
        self, endpoint: Slug, token_secret: bytes, module: Module, *, keys: tuple[str, ...], url: str = "",
        room_bytes: int = 0,
    ) -> Content: ...  # fmt: skip

    def of_job(self, job: Job, *, url: str = "", room_bytes: int = 0) -> Content: ...


def files(name: str, labels: dict[str, str], secrets: Mapping[str, bytes]) -> dict[str, Any]:
    """The Secret with the secrets of a group's or a job's module. It never changes: other values are another's."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels},
        "type": "Opaque",
        "immutable": True,
        "data": {name: base64.b64encode(value).decode() for name, value in sorted(secrets.items())},
    }


def secret(name: str, labels: dict[str, str], told: Content) -> dict[str, Any]:
    """The Secret of a group or a job. One that is renewed changes nothing of a pod that runs."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels},
        "type": "Opaque",
        "data": {SETTINGS: base64.b64encode(content.encode(told)).decode()},
    }


def trusting(attached: Attached, told: Content) -> Content:
    """The same, with the authorities that this target's pods are to trust.

    Raises:
        BadSettings: their file cannot be read.
    """
    at = attached.content_ca
    if not at:
        return told
    try:
        trusted = "" if at == SYSTEM else Path(at).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"it cannot be read: {error}", element=at, remedy="name a file in PEM") from error
    return msgspec.structs.replace(told, ca=trusted)
