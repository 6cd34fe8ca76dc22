"""Fields of a protobuf message, one after the other, out of a file that may lie about every length.

Nothing is allocated for what a file says, only for what is there and asked for; what would take too long is given up.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from modules.errors import Invalid

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTH: Final = {FIXED64: 8, FIXED32: 4}
_VARINT_BITS: Final = 70
_CONTINUES: Final = 0x80
_HALF: Final = 1 << 63


class Field(NamedTuple):
    """A field's number and wire type; its value where it is a number, and where its bytes are."""

    number: int
    wire: int
    value: int
    begin: int
    end: int


class Fields:
    """A file's bytes, of which so many fields are looked at altogether."""

    def __init__(self, data: memoryview, most: int) -> None:
        self._data, self._left = data, most

    def each(self, begin: int, end: int) -> Iterator[Field]:
        """The fields of the message between two places.

        Raises:
            Invalid: it is no such message, is cut off, or there is more than is looked at.
        """
        at = begin
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise Invalid("it has more parts than are looked at here", element="graph")
            tag, at = self._varint(at, end)
            wire, value = tag & 7, 0
            if wire == VARINT:
                value, stop = self._varint(at, end)
            elif wire == BYTES:
                length, at = self._varint(at, end)
                stop = at + length
            elif wire in _WIDTH:
                stop = at + _WIDTH[wire]
            else:
                raise Invalid("this is not an ONNX graph", element="graph")
            if stop > end:
                raise _cut_off()
            yield Field(tag >> 3, wire, value, at, stop)
            at = stop

    def text(self, field: Field, most: int) -> str:
        """A field's bytes as text, so many of them."""
        return bytes(self._data[field.begin : min(field.end, field.begin + most)]).decode("utf-8", "replace")

    def numbers(self, field: Field, most: int) -> Iterator[int]:
        """The numbers of a repeated field, however it was written; so many of them."""
        if field.wire != BYTES:
            yield signed(field.value)
            return
        at = field.begin
        while at < field.end and most > 0:
            value, at = self._varint(at, field.end)
            most -= 1
            yield signed(value)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < _VARINT_BITS:
            byte = self._data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < _CONTINUES:
                return value, at
        raise _cut_off()


def signed(value: int) -> int:
    """A number as two's complement of 64 bits."""
    value &= 2 * _HALF - 1
    return value - 2 * _HALF if value >= _HALF else value


def _cut_off() -> Invalid:
    return Invalid("the ONNX graph is cut off or damaged", element="graph", remedy="copy or export the file again")
