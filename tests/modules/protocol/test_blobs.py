"""Pull of blobs: requests and blocks in their packed form."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.bounds import MAX_COUNT
from modules.errors import Invalid
from modules.protocol import blobs
from modules.protocol.blobs import BlobGet, Block, MetadataGet, Shared
from tests.modules.documents import DIGESTS

REQUESTS = st.integers(1, MAX_COUNT)
DIGEST = "sha256:" + "0" * 64
METADATA = st.from_regex(r"([0-9]{1,9}\.)?[a-z0-9-]{1,80}\.json", fullmatch=True)


@given(request=REQUESTS, digest=DIGESTS, first=st.integers(0, blobs.MAX_BLOCKS), mask=st.integers(1, 2**63 - 1))
def test_requests_survive(request, digest, first, mask):
    """A request for blocks comes back, and asks for one block for each bit."""
    get = BlobGet(request=request, digest=digest, first=first, mask=mask)

    read = blobs.decode_get(blobs.encode(get))

    assert read == get
    assert sum(1 << number - first for number in read.numbers) == mask


@given(request=REQUESTS, name=METADATA)
def test_metadata_requests_survive(request, name):
    """A request for a TUF metadata file comes back."""
    get = MetadataGet(request=request, name=name)

    assert blobs.decode_get(blobs.encode(get)) == get


@given(
    block=st.builds(
        Block,
        request=REQUESTS,
        status=st.sampled_from([blobs.OK, blobs.MISSING, blobs.BUSY]),
        number=st.integers(0, 2**30),
        length=st.integers(0, 2**40),
        data=st.binary(max_size=200),
    )
)
def test_blocks_survive(block):
    """A block of any bytes comes back."""
    assert blobs.decode_block(blobs.encode(block)) == block


def test_a_full_block_fits_its_bound():
    """64 KiB and the largest numbers stay within what the other side takes."""
    block = Block(request=MAX_COUNT, status=blobs.OK, number=2**30, length=2**40, data=b"x" * (64 << 10))

    assert blobs.decode_block(blobs.encode(block)) == block


@pytest.mark.parametrize(
    "name", ["../root.json", "root.json\n", "1.root", "/etc/passwd", "", "a/b.json", "1.2.root.json"]
)
def test_refuses_metadata_names_that_are_paths(name):
    """Only plain names of metadata files are taken."""
    with pytest.raises(Invalid, match=r"up/blob/get"):
        blobs.decode_get(blobs.encode(MetadataGet(request=1, name=name)))


@pytest.mark.parametrize(
    "get",
    [
        BlobGet(request=0, digest="sha256:" + "0" * 64),
        BlobGet(request=1, digest="latest"),
        BlobGet(request=1, digest="sha256:" + "0" * 64, first=-1),
        BlobGet(request=1, digest="sha256:" + "0" * 64, mask=0),
        BlobGet(request=1, digest="sha256:" + "0" * 64, mask=1 << 63),
    ],
)
def test_refuses_requests_for_nothing(get):
    """A request without number, digest or block is refused."""
    with pytest.raises(Invalid):
        blobs.decode_get(blobs.encode(get))


@given(data=st.binary(max_size=300))
def test_noise_is_refused_in_one_way(data):
    """Bytes that are no document raise Invalid and nothing else."""
    for decode in (blobs.decode_get, blobs.decode_block):
        try:
            decode(data)
        except Invalid:
            continue


@pytest.mark.parametrize(
    ("decode", "limit"), [(blobs.decode_get, blobs.GET_LIMIT), (blobs.decode_block, blobs.BLOCK_LIMIT)]
)
def test_bounds_the_size_before_reading(decode, limit):
    """More bytes than a document can have are refused unread."""
    with pytest.raises(Invalid, match="more than"):
        decode(b"\0" * (limit + 1))


@given(
    request=REQUESTS,
    shared=st.sampled_from([blobs.ALONE, blobs.COULD, blobs.JOINED, blobs.LEFT]),
    last=st.integers(0, blobs.MAX_BLOCKS),
    still=st.lists(REQUESTS, max_size=8).map(tuple),
)
def test_what_a_request_says_of_broadcasts_survives(request, shared, last, still):
    """And a request that says nothing of them is, byte for byte, what older servers were made for."""
    get = BlobGet(request=request, digest=DIGEST, first=1, mask=3, shared=shared, last=last, still=still)
    before = {"kind": "blob", "request": request, "digest": DIGEST, "first": 1, "mask": 3}

    assert blobs.decode_get(blobs.encode(get)) == get
    assert blobs.encode(BlobGet(request=request, digest=DIGEST, first=1, mask=3)) == msgspec.msgpack.encode(before)


@pytest.mark.parametrize(
    "more",
    [{"shared": -1}, {"shared": 4}, {"last": -1}, {"last": 1 << 40}, {"still": (0,)}, {"still": tuple(range(1, 10))}],
)
def test_refuses_what_no_device_says_of_broadcasts(more):
    """A request with an unknown way, a block beyond every blob, or many other requests is refused."""
    with pytest.raises(Invalid):
        blobs.decode_get(blobs.encode(BlobGet(request=1, digest=DIGEST, **more)))


@given(number=st.integers(0, blobs.MAX_BLOCKS), length=st.integers(0, 2**40), data=st.binary(max_size=200))
def test_blocks_for_all_survive(number, length, data):
    """A block of a shared topic comes back; without bytes it is the announcement of one."""
    shared = Shared(number, length, data)

    assert blobs.decode_shared(blobs.encode(shared)) == shared


@pytest.mark.parametrize(
    "shared", [Shared(-1, 1, b"x"), Shared(1 << 40, 1, b"x"), Shared(0, 1 << 60, b"x"), Shared(0, 1, b"x" * 65537)]
)
def test_refuses_blocks_for_all_that_no_blob_has(shared):
    """Numbers, lengths and bytes have their ends."""
    with pytest.raises(Invalid, match="_shared/blob"):
        blobs.decode_shared(blobs.encode(shared))


def test_a_full_block_for_all_fits_its_bound():
    """64 KiB and the largest numbers stay within what devices take."""
    shared = Shared(blobs.MAX_BLOCKS, 1 << 40, b"x" * (64 << 10))

    assert blobs.decode_shared(blobs.encode(shared)) == shared
