"""Names that travel: parsed once at the door, trusted afterwards.

Every name that reaches a path, a topic or a certificate is checked here, so no other file quotes or escapes one.
"""

import re
from typing import Annotated, Final, NewType, Self

import msgspec

from modules.errors import Invalid

Slug = NewType("Slug", str)
DeviceId = NewType("DeviceId", str)
Digest = NewType("Digest", str)

# The same patterns for Struct fields, so that a document with a bad name does not decode. \Z, because $ would let a
# newline follow.
SlugField = Annotated[Slug, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
DeviceField = Annotated[DeviceId, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{2,62}\Z")]
DigestField = Annotated[Digest, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
# A file of trust metadata as it is published: ``2.root.json``, ``timestamp.json``.
MetadataField = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,9}\.)?[a-z0-9-]{1,80}\.json\Z")]

_METADATA: Final = re.compile(r"(?:[0-9]{1,9}\.)?([a-z0-9-]{1,80})\.json")
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DEVICE: Final = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION: Final = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.(?:0|[1-9][0-9]{0,8})){0,3}")
_PATH_PART: Final = re.compile(r"[A-Za-z0-9_@+=,() -][A-Za-z0-9._@+=,() -]{0,199}")
MAX_PATH: Final = 400
# /score, /metrics and /v2/... without a slot mean the only slot of a device.
RESERVED_SLOTS: Final = frozenset({"metrics", "score", "v2"})


def slug(text: str, *, what: str = "name") -> Slug:
    """A team, module or slot name: lower-case letters, digits and inner hyphens, 1 to 63 long.

    Raises:
        Invalid: the text is anything else.
    """
    if not _SLUG.fullmatch(text):
        raise Invalid(
            f"{text[:80]!r} is not a valid {what}",
            element=what,
            remedy="use 1 to 63 lower-case letters, digits and inner hyphens",
        )
    return Slug(text)


def slot_name(text: str) -> Slug:
    """A slot's name, which is the first level of its scoring address.

    Raises:
        Invalid: no name, or one that the gateway's own addresses have where a device has a single slot.
    """
    if text in RESERVED_SLOTS:
        raise Invalid(f"{text!r} is part of the scoring address itself", element="slot", remedy="choose another name")
    return slug(text, what="slot")


def device_id(text: str) -> DeviceId:
    """A device's id, which is also its certificate's common name and its topic level.

    The pattern has no ``:``, ``/``, ``+``, ``#`` or ``_``, so no device can be named like a service, a foreign topic
    or the shared branch.

    Raises:
        Invalid: the text is anything else.
    """
    if not _DEVICE.fullmatch(text):
        raise Invalid(
            f"{text[:80]!r} is not a valid device id",
            element="device",
            remedy="use 3 to 63 lower-case letters, digits and hyphens, not beginning with a hyphen",
        )
    return DeviceId(text)


def digest(text: str) -> Digest:
    """A content digest in OCI form, ``sha256:<64 hex digits>``.

    Raises:
        Invalid: the text is anything else, a tag for instance.
    """
    if not _DIGEST.fullmatch(text):
        raise Invalid(
            f"{text[:80]!r} is not a valid digest", element="digest", remedy="write sha256: and 64 hex digits"
        )
    return Digest(text)


def is_metadata(text: str) -> bool:
    """Whether a file of trust metadata may be called so."""
    return _METADATA.fullmatch(text) is not None


def metadata_role(text: str) -> str:
    """The role that a published file of trust metadata belongs to: ``root`` for ``2.root.json``.

    Raises:
        Invalid: the text is not such a file's name.
    """
    match = _METADATA.fullmatch(text)
    if not match:
        raise Invalid(f"{text[:80]!r} is not the name of a metadata file", element="trust metadata")
    return match[1]


def module_path(text: str) -> str:
    """A file's path inside a module: relative, forward slashes, nothing hidden, no ``..``.

    Raises:
        Invalid: the path could leave the module's folder or means different files on different systems.
    """
    parts = text.split("/")
    if len(text) > MAX_PATH or not all(_PATH_PART.fullmatch(part) for part in parts):
        raise Invalid(
            f"{text[:120]!r} is not a valid path inside a module",
            element="path",
            remedy="use relative paths of letters, digits and ._@+=,() - without leading dots",
        )
    return text


class Version(msgspec.Struct, frozen=True):
    """A module's version: one to four numbers, ordered as numbers (10 comes after 9, and 1 equals 1.0)."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``1`` or ``1.4.2``.

        Raises:
            Invalid: the text is not a dotted number.
        """
        if not _VERSION.fullmatch(text):
            raise Invalid(
                f"{text[:80]!r} is not a valid version",
                element="version",
                remedy="write one to four numbers, as 1 or 1.4.2",
            )
        return cls(text)

    @property
    def numbers(self) -> tuple[int, ...]:
        numbers = [int(part) for part in self.text.split(".")]
        while len(numbers) > 1 and numbers[-1] == 0:
            numbers.pop()
        return tuple(numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.numbers == other.numbers

    # > and >= are these two mirrored; total_ordering would leave them out, for a Struct has its own, which refuse
    def __lt__(self, other: "Version") -> bool:
        return self.numbers < other.numbers

    def __le__(self, other: "Version") -> bool:
        return self.numbers <= other.numbers

    def __hash__(self) -> int:
        return hash(self.numbers)

    def __str__(self) -> str:
        return self.text


class ModuleRef(msgspec.Struct, frozen=True):
    """``team/name:version``, the human's name of a module."""

    team: Slug
    name: Slug
    version: Version

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``acme/digits:3``.

        Raises:
            Invalid: the text has another form.
        """
        match = re.fullmatch(r"([^/:]+)/([^/:]+):([^/:]+)", text)
        if not match:
            raise Invalid(
                f"{text[:120]!r} is not a valid module reference", element="module", remedy="write team/name:version"
            )
        return cls(slug(match[1], what="team"), slug(match[2], what="module name"), Version.parse(match[3]))

    @property
    def target(self) -> str:
        """The path under which TUF metadata lists this module's manifest."""
        return f"modules/{self.team}/{self.name}/{self.version}.json"

    @classmethod
    def from_target(cls, path: str) -> Self:
        """Read a TUF target path back; the inverse of :attr:`target`.

        Raises:
            Invalid: the path is not a module's.
        """
        match = re.fullmatch(r"modules/([^/]+)/([^/]+)/([^/]+)\.json", path)
        if not match:
            raise Invalid(f"{path[:120]!r} is not a module's target path", element="manifest path")
        return cls(slug(match[1], what="team"), slug(match[2], what="module name"), Version.parse(match[3]))

    def __str__(self) -> str:
        return f"{self.team}/{self.name}:{self.version}"
