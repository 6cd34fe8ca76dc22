"""How large a layer becomes, whatever its archive says of itself."""

import gzip
import io
import tarfile

import msgspec
import pytest

from modules.digests import measure_bytes
from modules.errors import Invalid
from modules.manifest import Image
from modules.oci import blob_path
from modules.unpacked import sized, unpacked

MIB = 1 << 20


def member(name="file", size=0, kind=tarfile.REGTYPE, form=tarfile.GNU_FORMAT, data=None, **attributes):
    """One member's bytes: its header, which may say anything, and zeros or ``data``."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = size, kind, attributes
    content = bytes(size) if data is None else data
    return info.tobuf(form) + content + bytes(-len(content) % 512)


def attributes(kind=tarfile.XHDTYPE, **said):
    """A header of pax(1)'s with these words."""
    records = b""
    for name, value in said.items():
        text = f" {name.replace('_', '.')}={value}\n".encode()
        length = len(text) + len(str(len(text) + 2))
        records += str(length).encode() + text
    return member("pax", len(records), kind, data=records)


def layer(folder, *members, end=bytes(1024), cut=0):
    path = folder / "layer"
    whole = b"".join(members) + end
    parts = (whole[:cut], whole[cut:]) if cut else (whole,)
    # Several gzip members in a row, as a hostile layer may have.
    path.write_bytes(b"".join(map(gzip.compress, parts)))
    return path


def test_an_honest_layer_takes_what_its_files_take(tmp_path):
    """Whole blocks of 4 KiB and one for each name, folders and links too; long names and attributes are nothing."""
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / ("n" * 150)).write_bytes(b"x" * 5000)
    (folder / "link").symlink_to("n")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(folder, arcname="f")

    assert unpacked([layer(tmp_path, out.getvalue(), end=b"")], most=MIB) == 4096 + (8192 + 4096) + 4096


def test_reading_ends_where_it_is_too_much(tmp_path):
    """A file that says it has a gigabyte is not read to its end, nor are the layers behind it."""
    path = layer(tmp_path, member(size=1 << 30, data=b"x"))

    assert unpacked([path, tmp_path / "none"], most=MIB) > MIB


@pytest.mark.parametrize(
    "parts",
    [
        (member(size=512), member(size=4 * MIB)),
        (attributes(size=4 * MIB), member(size=0, data=bytes(4 * MIB))),
        (attributes(size=0), attributes(comment="x"), member(size=4 * MIB)),
        (attributes(tarfile.XGLTYPE, size=0), member(size=4 * MIB)),
        (member("folder", kind=tarfile.DIRTYPE, size=4 * MIB, data=b""), member(size=4 * MIB)),
        tuple(member(f"f{n}") for n in range(1000)),
    ],
    ids=["later gzip", "length elsewhere", "length taken back", "length of all", "folder's length", "many names"],
)
def test_no_header_hides_what_an_engine_would_unpack(tmp_path, parts):
    """Wherever and however often a length is said, it is read as Go's archive/tar, the engines' own, reads it."""
    assert unpacked([layer(tmp_path, *parts, cut=1024)], most=2 * MIB) > 2 * MIB


@pytest.mark.parametrize(
    "parts",
    [
        (member(kind=tarfile.GNUTYPE_SPARSE),),
        (attributes(GNU_sparse_realsize=1 << 40), member()),
        (attributes(GNU_sparse_major=1), member()),
        (member(kind=tarfile.XHDTYPE, size=1 << 30, data=b""),),
        (member(kind=tarfile.GNUTYPE_LONGNAME, size=1 << 30, data=b""),),
        (member(kind=tarfile.XHDTYPE, size=12, data=b"0 size=0\nxxx"),),
        (member(kind=tarfile.XHDTYPE, size=12, data=b"no records.."),),
        (member().replace(b"00000000000\x00", b"\x0000000010000", 1),),
        (b"x" * 512,),
    ],
    ids=["sparse", "sparse 0", "sparse 1", "huge pax", "huge name", "no end", "no records", "two readings", "garbage"],
)
def test_what_cannot_be_measured_is_refused(tmp_path, parts):
    """Sparse files, words of a gigabyte, and headers that two readers could read in two ways."""
    with pytest.raises(Invalid, match="no gzip-compressed tar"):
        unpacked([layer(tmp_path, *parts)], most=MIB)


def test_what_is_not_compressed_as_images_are_is_refused(tmp_path):
    """Another compression, nothing at all, and half a layer."""
    (tmp_path / "plain").write_bytes(member(size=512))
    half = layer(tmp_path, member(size=512))
    half.write_bytes(half.read_bytes()[:-20])
    for path in (tmp_path / "plain", tmp_path / "none", half):
        with pytest.raises(Invalid):
            unpacked([path], most=MIB)


def test_a_figure_that_is_there_is_not_measured_again(tmp_path):
    """An image gets what its layers take; one that says it keeps what it says, though its layers are nowhere."""
    data = gzip.compress(member(size=3 * MIB) + member(size=1) + bytes(1024))
    blob = measure_bytes(data)
    blob_path(tmp_path, blob.sha256).write_bytes(data)
    image = Image(name="i", manifest=blob, config=blob, layers=(blob, blob))

    found = sized(image, tmp_path)

    assert found == msgspec.structs.replace(image, unpacked_bytes=2 * (3 * MIB + 3 * 4096))
    assert sized(found, tmp_path / "nowhere") == found
    assert sized(msgspec.structs.replace(image, layers=()), tmp_path).unpacked_bytes == 0


def test_what_no_device_unpacks_is_refused_where_it_is_published(tmp_path):
    """A sparse file in a layer is found before anybody signs it."""
    data = gzip.compress(member(kind=tarfile.GNUTYPE_SPARSE) + bytes(1024))
    blob = measure_bytes(data)
    blob_path(tmp_path, blob.sha256).write_bytes(data)

    with pytest.raises(Invalid, match="sparse"):
        sized(Image(name="i", manifest=blob, config=blob, layers=(blob,)), tmp_path)
