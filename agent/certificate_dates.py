"""From when to when a certificate holds, read from its own bytes (RFC 5280, DER).

``cryptography`` would read all of it, and its parser of certificates stays in the memory of every idle agent for two
dates.
"""

import binascii
from datetime import UTC, datetime
from typing import Final, NamedTuple

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
# Tags, and the mark of a length that takes more than one byte.
_SEQUENCE: Final = 0x30
_UTC_TIME: Final = 0x17
_TIME: Final = 0x18
_VERSION: Final = 0xA0
_LONG: Final = 0x80
# Year, month, day, hour, minute, second: where each begins, and how many digits it has.
_PLACES: Final = ((0, 4), (4, 2), (6, 2), (8, 2), (10, 2), (12, 2))
# Two digits of a year: 50 and more are of the last century.
_CENTURY: Final = 50


class Dates(NamedTuple):
    """Unix seconds."""

    begins: float
    ends: float


def dates(pem: bytes) -> Dates:
    """The dates of the first certificate.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    body = pem.partition(_BEGIN)[2].partition(_END)[0]
    try:
        data = binascii.a2b_base64(body)
        at, _ = _inside(data, _inside(data, 0)[0])
        if data[at] == _VERSION:
            at = _after(data, at)
        for _ in ("serial number", "algorithm", "issuer"):
            at = _after(data, at)
        at, end = _inside(data, at)
        begins = _time(data, at)
        middle = _after(data, at)
        if middle >= end:
            raise ValueError("one of its dates is missing")
        return Dates(begins, _time(data, middle))
    except (IndexError, binascii.Error) as error:
        raise ValueError("it is no certificate") from error


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Where an element's content begins and ends."""
    first = data[at + 1]
    if first < _LONG:
        return at + 2, at + 2 + first
    more = first - _LONG
    begin = at + 2 + more
    end = begin + int.from_bytes(data[at + 2 : begin])
    if end > len(data):
        raise ValueError("it is cut off")
    return begin, end


def _inside(data: bytes, at: int) -> tuple[int, int]:
    if data[at] != _SEQUENCE:
        raise ValueError("it is no certificate")
    return _length(data, at)


def _after(data: bytes, at: int) -> int:
    return _length(data, at)[1]


def _time(data: bytes, at: int) -> float:
    begin, end = _length(data, at)
    text = data[begin:end].decode("ascii")
    if data[at] == _UTC_TIME:
        text = ("19" if int(text[:2]) >= _CENTURY else "20") + text
    elif data[at] != _TIME:
        raise ValueError("it has no dates")
    year, month, day_, hour, minute, second = (int(text[at : at + size]) for at, size in _PLACES)
    return datetime(year, month, day_, hour, minute, second, tzinfo=UTC).timestamp()


def day(seconds: float) -> str:
    """A moment's day, as people are shown it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
