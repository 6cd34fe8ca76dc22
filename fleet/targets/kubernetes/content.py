"""What a group's pods are told of their module: a Secret, which is what the fleet's own side says of it each time."""

import base64
from typing import Any, Protocol

from fleet.targets.contract import Module
from fleet.targets.kubernetes.names import Names
from modules.names import Slug
from modules.protocol import content
from modules.protocol.content import SETTINGS, Content


class Contents(Protocol):
    """``fleet/targets/content.py``, as far as a target needs it. What it says changes only when it has to."""

    def of(
        self, endpoint: Slug, token_secret: bytes, module: Module, *, keys: tuple[str, ...], url: str = "",
        room_bytes: int = 0,
    ) -> Content: ...  # fmt: skip


def secret(names: Names, group: str, told: Content) -> dict[str, Any]:
    """The Secret of a group. One that is renewed changes nothing of a pod that runs."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.content(group), "labels": names.of("content", group)},
        "type": "Opaque",
        "data": {SETTINGS: base64.b64encode(content.encode(told)).decode()},
    }
