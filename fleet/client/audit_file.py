"""An audit log in a file: the key, the signed heads and the rows, a JSON document in each line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from securesystemslib.signer import Key

from fleet.audit.chain import Entry
from fleet.client.new_file import new_file
from modules.canonical import UNREADABLE
from modules.errors import Invalid

FORMAT: Final = "edgefleet.audit/1"


class Log(NamedTuple):
    """A log as it was exported."""

    key: dict[str, Any]
    heads: list[bytes]
    rows: Iterator[Entry]


def write(file: Path, log: Log) -> int:
    """Write a new file that only its owner may read; how many rows it has.

    Raises:
        BadSettings: there is such a file.
    """
    rows = 0
    with new_file(file) as stream:
        stream.write(msgspec.json.encode({"format": FORMAT, "key": log.key}) + b"\n")
        for head in log.heads:
            stream.write(msgspec.json.encode({"head": head.decode()}) + b"\n")
        for entry in log.rows:
            stream.write(msgspec.json.encode(entry) + b"\n")
            rows += 1
    return rows


def read(file: Path) -> Log:
    """Read such a file; the rows as they are asked for.

    Raises:
        Invalid: it is no exported log, or a line of it cannot be read.
    """
    lines = _lines(file)
    first = next(lines, {})
    if first.get("format") != FORMAT:
        raise Invalid("not an exported audit log", element=str(file), remedy="edgefleet audit export FILE")
    heads: list[bytes] = []
    rest = iter(lines)
    following: list[dict[str, Any]] = []
    for line in rest:
        if "head" not in line:
            following.append(line)
            break
        heads.append(str(line["head"]).encode())
    return Log(dict(first.get("key", {})), heads, _entries(file, following, rest))


def read_heads(file: Path) -> list[bytes]:
    """The heads of a file that was shipped: ``audit-heads.jsonl``, or lines of a log in which they stand."""
    text = file.read_bytes()
    return [line[line.index(b"{") :] for line in text.splitlines() if b"{" in line]


def key_of(document: dict[str, Any]) -> dict[str, Key]:
    """The key that signs heads, under its id.

    Raises:
        Invalid: it cannot be read.
    """
    try:
        keyid = str(document["keyid"])
        rest = {name: value for name, value in document.items() if name != "keyid"}
        return {keyid: Key.from_dict(keyid, rest)}
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(f"the key of the audit log cannot be read: {error}", element="audit key") from error


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except UNREADABLE as error:
                raise Invalid(f"line {number} cannot be read: {error}", element=str(file)) from error


def _entries(file: Path, *parts: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    for part in parts:
        for line in part:
            try:
                yield msgspec.convert(line, Entry)
            except msgspec.ValidationError as error:
                raise Invalid(f"a row cannot be read: {error}", element=str(file)) from error
