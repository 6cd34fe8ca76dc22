"""Naming bytes: whole, and block by block."""

import hashlib
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modules import digests
from modules.digests import BLOCK, HASH
from modules.errors import Invalid

LENGTHS = st.integers(0, 3 * BLOCK + 1)


class Trickle(io.BytesIO):
    """A stream that returns at most ``most`` bytes a read, as pipes and sockets do."""

    def __init__(self, data, most):
        super().__init__(data)
        self.most = most

    def read(self, size=-1):
        return super().read(min(size, self.most) if size >= 0 else self.most)


def content(length):
    return bytes(i % 251 for i in range(length))


@given(length=LENGTHS, most=st.integers(1000, 2 * BLOCK))
@example(length=0, most=BLOCK)
@example(length=BLOCK, most=BLOCK - 1)
@example(length=BLOCK + 1, most=BLOCK)
def test_blocks_do_not_depend_on_how_the_stream_reads(length, most):
    """Whatever a stream returns at a time, its blocks are the 64 KiB slices of its bytes."""
    data = content(length)

    blocks = list(digests.read_blocks(Trickle(data, most)))

    assert blocks == [data[start : start + BLOCK] for start in range(0, length, BLOCK)]


@given(length=LENGTHS)
@example(length=0)
@example(length=BLOCK)
def test_every_block_can_be_checked_alone(length):
    """The index accepts each block at its own place, and no changed block."""
    data = content(length)
    blocks = list(digests.read_blocks(io.BytesIO(data)))
    blob, index = digests.measure(blocks)

    assert (blob.length, blob.block_count) == (length, len(blocks))
    assert blob.sha256 == "sha256:" + hashlib.sha256(data).hexdigest()
    digests.check_index(blob, index)
    for number, block in enumerate(blocks):
        assert blob.block_length(number) == len(block)
        assert digests.block_matches(index, number, block)
        assert not digests.block_matches(index, number, block + b"x")
        assert not digests.block_matches(index, number + 1, block)


def test_file_bytes_and_blocks_have_one_name(tmp_path):
    """A blob measured from a file, from memory and from blocks is the same blob."""
    data = content(BLOCK + 7)
    (tmp_path / "blob").write_bytes(data)

    blob, index = digests.measure_file(tmp_path / "blob")

    assert blob == digests.measure_bytes(data)
    assert blob.blocks == digests.sha256(index)


@pytest.mark.parametrize(
    "spoil", [lambda i: i[:-1], lambda i: i + b"\0" * HASH, lambda i: b"\0" + i[1:], lambda _: b""]
)
def test_refuses_another_index(spoil):
    """An index that is cut, longer or changed is not the one that was signed."""
    blob, index = digests.measure([content(BLOCK), b"tail"])

    with pytest.raises(Invalid, match="not the block index"):
        digests.check_index(blob, spoil(index))
