"""A join bundle as a line of text: whole or not at all, whatever a scanner or a terminal does to it."""

import base64
import hashlib
import string
import zlib

import msgspec
import pytest

from modules.errors import Invalid
from modules.protocol import join_code
from modules.protocol.enrollment import LIMIT, Broker, JoinBundle

BUNDLE = JoinBundle(
    fleet="https://fleet.example.org",
    broker=Broker(host="mqtt.example.org", port=8883, ca="-----BEGIN CERTIFICATE-----\nabc\n"),
    ca="-----BEGIN CERTIFICATE-----\nf\u00fcr\n",
    root=bytes(range(256)),
    token="once",
    blob_url="https://blobs.example.org",
)
CODE = join_code.encode(BUNDLE)


def packed(document: bytes) -> bytes:
    """A code with this in it."""
    return join_code.PREFIX.encode() + base64.b32encode(zlib.compress(document)).rstrip(b"=")


def test_it_is_the_bundle():
    """All of it; by characters that a QR code holds closest."""
    assert join_code.decode(CODE.encode()) == BUNDLE
    assert set(CODE) <= set(string.ascii_uppercase + string.digits + " $%*+-./:")


@pytest.mark.parametrize(
    "typed",
    [f"  {CODE}\r\n", CODE.lower(), "\n".join(CODE[at : at + 72] for at in range(0, len(CODE), 72))],
    ids=["a scanner's Enter", "small letters", "broken into lines"],
)
def test_it_is_read_as_scanners_and_terminals_give_it(typed):
    """White space and small letters make no difference."""
    assert join_code.is_code(typed.encode())
    assert join_code.decode(typed.encode()) == BUNDLE


@pytest.mark.parametrize("length", [*range(len(join_code.PREFIX), len(CODE), 41), len(CODE) - 1])
def test_a_part_of_it_joins_nothing(length):
    """Wherever it is cut."""
    with pytest.raises(Invalid) as raised:
        join_code.decode(CODE[:length].encode())

    assert (raised.value.element, raised.value.remedy) == ("join code", "scan it again")


@pytest.mark.parametrize("wrong", ["0", "A", "-", "\u00e4"])
def test_a_letter_that_was_read_wrong_joins_nothing(wrong):
    """Its bytes carry a checksum."""
    middle = len(CODE) // 2
    assert CODE[middle] != wrong
    with pytest.raises(Invalid, match="read wrong"):
        join_code.decode((CODE[:middle] + wrong + CODE[middle + 1 :]).encode())


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "not a valid document"),
        (b"\xc1", "not a valid document"),
        (msgspec.msgpack.encode({"format": "edgefleet.join/2"}), "not a valid document"),
        (msgspec.msgpack.encode(msgspec.structs.replace(BUNDLE, token="t" * 70_000)), "not a valid document"),
        (bytes([0x91]) * 100_000, "not a valid document"),
        (b"\0" * (LIMIT + 1), "read wrong"),
    ],
    ids=["nothing", "no MessagePack", "another format", "out of bounds", "nested", "unpacks to more than a bundle is"],
)
def test_what_is_no_bundle_joins_nothing(document, says):
    """However small it is as a code."""
    with pytest.raises(Invalid, match=says):
        join_code.decode(packed(document))


@pytest.mark.parametrize("file", [b"", b"{}", b'{"format": "edgefleet.join/1"}', b"EDGEFLEET"])
def test_a_file_is_not_taken_for_a_code(file):
    """It is read as a bundle's file."""
    assert not join_code.is_code(file)


def test_a_bundle_too_large_for_a_code_says_what_to_do():
    """A terminal's line is shorter than what a QR code holds."""
    large = msgspec.structs.replace(BUNDLE, root=b"".join(hashlib.sha256(b"%d" % at).digest() for at in range(80)))
    with pytest.raises(Invalid, match="characters") as raised:
        join_code.encode(large)

    assert raised.value.remedy == "carry the bundle's file to the device"
    assert join_code.LONGEST < 4095
