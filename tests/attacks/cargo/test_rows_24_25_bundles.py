"""Rows 24 and 25: what a bundle can name and hold that would leave its folder, or would not fit anywhere.

A module is a signed list of plain files and layers; nothing here unpacks an archive but the container engine, which is
given an image's layers once they were measured. tests/attacks/modules/test_images.py runs setuid programs and device
nodes of an image in a real container.
"""

import gzip
import io
import secrets
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

BOMB_MIB = 256


def layer(*members):
    """A layer of these members, each a name with what is special about it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, special in members:
            info = tarfile.TarInfo(name)
            data = special.pop("data", b"evil")
            info.size = len(data) if info.isfile() and special.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
            for key, value in special.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def members(mark, outside):
    """By slot, what each layer holds; every one of them would leave a file of this name where it may not."""
    link, hard = tarfile.SYMTYPE, tarfile.LNKTYPE
    up = "../" * 12
    return {
        "above": [(f"{up}tmp/{mark}", {})],
        "absolute": [(f"/tmp/{mark}", {})],
        "through-link": [("d", {"type": link, "linkname": str(outside)}), (f"d/{mark}", {})],
        "hard-link": [("h", {"type": hard, "linkname": f"{up}{outside}/mine"}), ("h", {"data": mark.encode()})],
        "device": [(mark, {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0, "mode": 0o666})],
        "setuid": [(mark, {"mode": 0o6755})],
        "twice": [(mark, {}), (mark, {"data": b"other"}), (mark.upper(), {})],
        "long": [("x" * 4096, {})],
    }


def test_row_24_no_member_of_a_layer_leaves_its_container(edge, hold):
    """Layers with ``..``, absolute names, links that lead out, device nodes, setuid programs, names twice and of 4 kB:
    none of their modules ever serves, nothing of them is outside the engine's own folder, and links lead nowhere."""
    mark = f"efc-{secrets.token_hex(6)}"
    slots = members(mark, edge.outside)
    for slot, listed in slots.items():
        data = layer(*listed)
        image = hold.image(gzip.compress(data, mtime=0), diff=data)
        hold.order(hold.graph(f"layer-{slot}", b"g", image=image, ready_within_s=3.0), slot)
    ends = {slot: hold.ends(slot, within_s=90) for slot in slots}

    assert {slot: end for slot, end in ends.items() if end.phase == "committed"} == {}
    for place in (Path("/"), Path("/tmp")):
        assert not list(place.glob(f"*{mark}*")), place
    for place in (edge.outside, edge.device.folder):
        assert not [path for path in place.rglob("*") if mark in path.name.lower()], place
    assert (edge.outside / "mine").read_text() == "nobody's business"
    edge.holds()
    hold.empty(*slots)
    edge.holds()


def bomb(mib):
    """So many MiB of zeros: small where it lies."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=0) as stream:
        info = tarfile.TarInfo("large")
        info.size = mib << 20
        stream.write(info.tobuf())
        for _ in range(mib):
            stream.write(bytes(1 << 20))
        stream.write(bytes(1024))
    return out.getvalue()


def promise(length):
    """A header that claims a file of this length, and no file."""
    info = tarfile.TarInfo("large")
    info.size = length
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT), mtime=0)


@pytest.mark.parametrize(
    "made", [lambda: bomb(BOMB_MIB), lambda: promise(1 << 50)], ids=["gzip of zeros", "a length without a file"]
)
def test_row_25_a_bomb_is_not_unpacked_beyond_what_was_signed(edge, hold, engine, made):
    """Two hundred and fifty MiB in one, and a petabyte in one header: rejected while they are measured, the engine
    never gets them, and what the device took of the disk is what travelled."""
    data = made()
    assert len(data) < 2 << 20
    image = hold.image(data)
    end = hold.brought("evil", hold.graph("bomb", b"g", image=image))

    assert (end.phase, end.code) == ("rejected", "invalid"), end
    assert image.config.sha256 not in {one.id for one in engine.images.list()}
    taken = sum(path.stat().st_size for path in edge.device.state.rglob("*") if path.is_file())
    assert taken < 64 << 20
    edge.holds()
    hold.empty("evil")
