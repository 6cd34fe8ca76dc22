"""What a pod is told about its module: written by the fleet server into a Secret, read by ``python -m agent.content``.

The program runs in the pod before the scoring server does (an init container of the gateway's image)::

    python -m agent.content --settings /edgefleet-settings/content.json --to /edgefleet

It fetches trust metadata, manifest and files from ``url``, verifies them as a device does, and leaves
``/edgefleet/module/{manifest.json,files/...}`` and ``/edgefleet/access.json``, as a container host's volume has them.
Whoever can write the Secret can as well write which image runs, so the document is not signed; what a device's order
says with a signature, this says alone. A Secret that is renewed changes nothing of a pod that runs.
"""

from typing import Annotated, Final, Literal

import msgspec

from modules import canonical
from modules.bounds import Line, Number, Time
from modules.names import DigestField

#: the settings' key in the Secret, and so the file's name
SETTINGS: Final = "content.json"
#: in the folder that the program fills: the module, and who may ask the scoring server (``modules/endpoint/keys.py``)
MODULE: Final = "module"
ACCESS: Final = "access.json"
#: how the program ends: the content is there; it will never be accepted; it could not be had, so try again
DONE: Final = 0
REFUSED: Final = 1
UNREACHED: Final = 2
#: how a line begins that it writes before it tries once more, with the reason behind it
TRIED_AGAIN: Final = "tried again in"

LIMIT: Final = 512 << 10
MAX_KEYS: Final = 8
# The roles that one module rests on: root, timestamp, snapshot, targets, its team's role and bin; and some to spare.
MAX_ROLES: Final = 64

_Role = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,80}\Z")]
_KeyId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,128}\Z")]
_Key = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{16,200}\Z")]


class RoleSeen(msgspec.Struct, frozen=True):
    """The version of a trust role that the fleet server had when it wrote this, and the sorted ids of its keys.

    A pod remembers nothing, so this is what it has instead of a device's memory: older metadata is refused.
    """

    version: Number
    keyids: Annotated[tuple[_KeyId, ...], msgspec.Meta(max_length=64)]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """All that ``agent.content`` needs.

    Attributes:
        url: the fleet server's address of this content, ``https://HOST[:PORT]/api/v1/content/ENDPOINT/DIGEST``.
        ca: the PEM of the authorities that its certificate may come from; empty: the system's.
        token: lets its bearer fetch this one module until it expires (``fleet/targets/content.py``).
        module: the reference ``team/name:version``.
        digest: of its manifest, as the endpoint's wish has it.
        root: the TUF root (base64 in the JSON form), which only a successor that it signed replaces.
        roles: below which version no role is believed.
        written: when this was written; no true time is before it, in Unix seconds.
        keys: what lets clients of the scoring server in, so the gateway of the endpoint alone knows them.
        within_s: how long the program tries in all.
        room_bytes: how much it may write; 0: as much as the disk takes. A little below the volume's ``sizeLimit``.
    """

    format: Literal["edgefleet.content/1"] = "edgefleet.content/1"
    url: Line
    ca: Annotated[str, msgspec.Meta(max_length=64 << 10)] = ""
    token: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,500}\Z")]
    module: Line
    digest: DigestField
    root: Annotated[bytes, msgspec.Meta(max_length=128 << 10)]
    roles: Annotated[dict[_Role, RoleSeen], msgspec.Meta(max_length=MAX_ROLES)] = {}
    written: Time = 0.0
    keys: Annotated[tuple[_Key, ...], msgspec.Meta(min_length=1, max_length=MAX_KEYS)]
    within_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 300.0
    room_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 41)] = 0


def encode(content: Content) -> bytes:
    return canonical.encode(content)


def decode(data: bytes) -> Content:
    """Read the settings.

    Raises:
        Invalid: too large, or not such a document.
    """
    return canonical.decode(data, Content, limit=LIMIT, what=SETTINGS)
