"""What Azure ML knows of an endpoint's version and a fleet server does not: kept among the endpoint's properties."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import Invalid

# Properties of an endpoint that are the SDK's own, and that no script sees.
OWN: Final = "sdk."
_VERSION: Final = f"{OWN}version."
_MOST_BYTES: Final = 16 << 10


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``traffic_percentile`` is what was asked for: a default version has besides what the others leave over."""

    traffic_percentile: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    control: bool = False
    description: str = ""
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}


def own(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The SDK's own among the properties."""
    return {name: one for name, one in properties.items() if name.startswith(OWN)}


def given(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The others: those that scripts have given."""
    return {name: one for name, one in properties.items() if not name.startswith(OWN)}


def noted(properties: Mapping[str, Any], version: str) -> Note:
    """What is known of a version; nothing where somebody else has made it."""
    try:
        return msgspec.json.decode(properties.get(_VERSION + version, "{}"), type=Note)
    except UNREADABLE:
        return Note()


def written(notes: Mapping[str, Note]) -> dict[str, str]:
    """The properties that keep these notes.

    Raises:
        Invalid: one has more in it than a property may hold.
    """
    found = {_VERSION + version: msgspec.json.encode(note).decode() for version, note in notes.items()}
    for name, text in found.items():
        if len(text) > _MOST_BYTES:
            raise Invalid(
                f"tags, properties and description are longer than {_MOST_BYTES} characters",
                element=name.removeprefix(_VERSION),
                remedy="shorten them",
            )
    return found


def without_versions(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties but for what is known of versions."""
    return {name: one for name, one in properties.items() if not name.startswith(_VERSION)}
