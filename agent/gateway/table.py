"""The routing table: what the agent tells the gateway, as one file that is replaced whole.

The agent is the only writer, the gateway the only reader. This file imports nothing heavier than msgspec, because both
processes carry it.
"""

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from modules.errors import Invalid
from modules.names import Slug, slug
from modules.protocol.routing import Route, Table

MAX_BYTES: Final = 1 << 20


class Parsed(NamedTuple):
    """A table as the gateway understands it; ``refused`` are slots of which it cannot use the route, and why."""

    table: Table
    refused: dict[str, str]


class _Rough(msgspec.Struct):
    """A table whose routes are looked at one by one: a route that cannot be used takes no other with it."""

    generation: int
    slots: dict[str, dict[str, Any]]


_decoder = msgspec.json.Decoder(Table)
_rough = msgspec.json.Decoder(_Rough)


def write(path: Path, table: Table) -> None:
    """Replace the table in one step; a reader sees the old one or the new one, never a mixture.

    The file is readable for its group, which is the gateway's.

    Raises:
        OSError: the folder is missing, full or not writable.
    """
    replace(path, msgspec.json.encode(table))


def replace(path: Path, data: bytes) -> None:
    """Replace a file of the gateway's in one step, readable for its owner and its group.

    Raises:
        OSError: the folder is missing, full or not writable.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o640)  # whatever the umask says: the group is the gateway
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def parse(content: bytes, *, element: str) -> Parsed:
    """Read a table's bytes. A route that cannot be used is refused alone; a fallback that cannot, without its route.

    Raises:
        Invalid: they are not a routing table, or too many.
    """
    if len(content) > MAX_BYTES:
        raise Invalid(f"a routing table of more than {MAX_BYTES} bytes", element=element)
    try:
        return Parsed(_decoder.decode(content), {})
    except msgspec.ValidationError:
        pass  # looked at route by route
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_a_table(element, error) from error
    try:
        rough = _rough.decode(content)
    except msgspec.ValidationError as error:
        raise _not_a_table(element, error) from error
    slots: dict[Slug, Route] = {}
    refused: dict[str, str] = {}
    for name, found in rough.slots.items():
        for tried in (found, {**found, "fallback": None}):
            try:
                slots[slug(name, what="slot")] = msgspec.convert(tried, Route)
                break
            except (Invalid, msgspec.ValidationError) as error:
                refused.setdefault(name, str(error))
    return Parsed(Table(generation=rough.generation, slots=slots), refused)


def _not_a_table(element: str, error: Exception) -> Invalid:
    return Invalid(
        f"not a routing table: {error}", element=element, remedy="restart edgefleet-agent, which writes it anew"
    )


def read(path: Path) -> Table:
    """Read the table from its file.

    Raises:
        Invalid: the file is no routing table.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return parse(file.read(MAX_BYTES + 1), element=str(path)).table
