"""The chain: each row's hash covers the one before, and a signed head covers all up to it. Pure.

Whoever changes, removes or inserts a row must hash every later one anew, and then no head holds that was signed since;
heads are shipped off the server, so that even who has its key cannot make the old ones say something else.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from securesystemslib.signer import Key, Signer

from modules import canonical, signing
from modules.bounds import Count, Line, Number, Time, Word
from modules.errors import Refused

HEAD_TYPE: Final = "application/vnd.edgefleet.audit-head+json"
HEAD_LIMIT: Final = 4 << 10
# What the first row follows.
BEGIN: Final = "0" * 64
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One row. ``outcome`` is the HTTP status, 0 for what was done on the server itself; ``code`` why it was refused.

    ``by`` is who asked (empty: nobody that is known), ``origin`` the address they came from, ``action`` the route or
    command, ``target`` what it was about. ``at`` is Unix seconds by the server's clock.
    """

    id: Number
    at: Time
    by: Line
    origin: Line
    action: Line
    target: Line
    outcome: Count
    code: Word
    hash: Hash


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a signed head: that the chain ended at this row at that time."""

    format: Literal["edgefleet.audit-head/1"] = "edgefleet.audit-head/1"
    at: Time
    id: Count
    hash: Hash


class Flaw(NamedTuple):
    """What is wrong: ``code`` is edited, missing, cut, re-chained or forged-head; ``id`` is the row, 0: none."""

    code: str
    id: int
    message: str


class Verdict(NamedTuple):
    """``rows`` were looked at, of which those up to ``proved`` are covered by a head whose signature holds."""

    rows: int
    heads: int
    proved: int
    flaws: tuple[Flaw, ...]


def link(before: str, entry: Entry) -> str:
    """The hash of a row: SHA-256 over the hash before it and the row's other fields, as canonical JSON."""
    fields = [entry.id, entry.at, entry.by, entry.origin, entry.action, entry.target, entry.outcome, entry.code]
    return hashlib.sha256(before.encode() + msgspec.json.encode(fields)).hexdigest()


def sign(head: Head, signer: Signer) -> bytes:
    """The head in an envelope."""
    return signing.sign(canonical.encode(head), payload_type=HEAD_TYPE, signers=[signer])


def verify(entries: Iterable[Entry], heads: Sequence[bytes], keys: Mapping[str, Key]) -> Verdict:
    """Hold a log against itself and against the heads that were signed of it.

    Args:
        entries: all rows, in order.
        heads: envelopes, of any age and in any order: those of the server, and those that were shipped.
        keys: who may sign heads, by key id.
    """
    flaws: list[Flaw] = []
    signed = list(_opened(heads, keys, flaws))
    wanted: dict[int, set[str]] = {}
    for head in signed:
        wanted.setdefault(head.id, set()).add(head.hash)
    before, last, proved = BEGIN, 0, 0
    for entry in entries:
        if entry.id != last + 1:
            # What follows cannot fit, and is not told again.
            flaws.append(Flaw("missing", last + 1, f"rows {last + 1} to {entry.id - 1} are missing"))
        elif link(before, entry) != entry.hash:
            flaws.append(Flaw("edited", entry.id, f"row {entry.id} is not what was written, or not where it was"))
        for said in wanted.pop(entry.id, ()):
            if said == entry.hash:
                proved = max(proved, entry.id)
            else:
                flaws.append(Flaw("re-chained", entry.id, f"a head was signed of another row {entry.id}"))
        before, last = entry.hash, entry.id
    wanted.pop(0, None)
    if wanted:
        furthest = max(wanted)
        flaws.append(Flaw("cut", last + 1, f"the log ends at row {last}, and a head was signed of row {furthest}"))
    return Verdict(last, len(signed), proved, tuple(flaws))


def _opened(heads: Sequence[bytes], keys: Mapping[str, Key], flaws: list[Flaw]) -> Iterable[Head]:
    for envelope in dict.fromkeys(heads):
        try:
            payload = signing.verify(envelope, payload_type=HEAD_TYPE, keys=keys.values(), limit=HEAD_LIMIT)
            yield canonical.decode(payload, Head, limit=HEAD_LIMIT, what="audit head")
        except Refused as error:
            flaws.append(Flaw("forged-head", 0, f"a head does not hold: {error.message}"))
