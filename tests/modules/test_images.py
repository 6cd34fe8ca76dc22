import gzip
import hashlib
import io
import json
import os
import tarfile
import threading

import msgspec
import pytest

from modules.digests import BLOCK, check_index, measure_bytes, measure_file
from modules.errors import Invalid, Untrusted
from modules.image_import import import_archive
from modules.images import archive, archive_tag, check_held, image_ids, read_config, write_archive
from modules.oci import DOCUMENT_LIMIT, blob_path
from tests.doubles.disk import Disk

LOWER, UPPER = os.urandom(3 * BLOCK + 17), b"upper" * 50_000


def layer(content: bytes) -> bytes:
    return tar([("etc/content", content)])


def tar(members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive_file:
        for path, content in members:
            info = tarfile.TarInfo(path)
            if isinstance(content, bytes):
                info.size = len(content)
                archive_file.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive_file.addfile(info)
    return out.getvalue()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_of(*layers: bytes, **changes) -> bytes:
    ids = [f"sha256:{sha(one)}" for one in layers]
    return json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {"User": "1"}, "rootfs": {"type": "layers", "diff_ids": ids}}
        | changes
    ).encode()


LAYERS = (layer(LOWER), layer(UPPER))
CONFIG = config_of(*LAYERS)


def docker_before_25(config=CONFIG, layers=LAYERS) -> bytes:
    """As ``docker save`` of 20.10 writes it: a folder per layer, a repeated layer as a link, the list at the end."""
    seen: dict[str, str] = {}
    members, paths = [], []
    for number, one in enumerate(layers):
        path = f"{number:064x}/layer.tar"
        members += [(f"{number:064x}/VERSION", b"1.0"), (f"{number:064x}/json", b'{"id":"old"}')]
        members.append((path, f"../{seen[sha(one)]}" if sha(one) in seen else one))
        seen.setdefault(sha(one), path)
        paths.append(path)
    entry = {"Config": f"{sha(config)}.json", "RepoTags": ["probe:1"], "Layers": paths}
    return tar([*members, (f"{sha(config)}.json", config), ("manifest.json", json.dumps([entry]).encode())])


def oci_layout(config=CONFIG, layers=LAYERS, *, compress=lambda data: data, nested=False) -> bytes:
    """As newer engines and ``podman save --format oci-archive`` write it, ``nested`` as BuildKit does."""
    blobs = {sha(one): one for one in (config, *map(compress, layers))}

    def described(data: bytes) -> dict:
        blobs[sha(data)] = data
        return {"digest": f"sha256:{sha(data)}", "size": len(data), "mediaType": "application/x"}

    manifest = json.dumps(
        {"config": described(config), "layers": [described(compress(one)) for one in layers]}
    ).encode()
    entries = [described(manifest)]
    if nested:
        statement = {**described(b'{"config":{"digest":"sha256:0"},"layers":[]}')}
        statement["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
        entries = [described(json.dumps({"manifests": [*entries, statement]}).encode())]
    index = json.dumps({"manifests": entries}).encode()
    return tar(
        [
            *[(f"blobs/sha256/{name}", data) for name, data in blobs.items()],
            ("index.json", index),
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        ]
    )


@pytest.fixture
def blobs(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return folder


def imported(data: bytes, blobs, **options):
    return import_archive(io.BytesIO(data), blobs, **options)


FORMS = [
    pytest.param(docker_before_25(), id="docker before 25, podman"),
    pytest.param(oci_layout(), id="OCI layout"),
    pytest.param(oci_layout(compress=lambda data: gzip.compress(data, 1)), id="OCI layout with gzip layers"),
    pytest.param(oci_layout(nested=True), id="OCI layout with an index of platforms and an attestation"),
    pytest.param(gzip.compress(docker_before_25()), id="compressed as a whole"),
]


class TestImport:
    @pytest.mark.parametrize("data", FORMS)
    def test_every_form(self, data, blobs):
        """Whatever an engine saves becomes its unchanged configuration and layers that unpack to the same bytes."""
        image = imported(data, blobs)

        assert blob_path(blobs, image.config.sha256).read_bytes() == CONFIG
        stored = [gzip.decompress(blob_path(blobs, one.sha256).read_bytes()) for one in image.layers]
        assert stored == list(LAYERS)

    def test_blobs_are_named_and_indexed(self, blobs):
        """Each blob is a file named by its digest, beside the block index that lets 64 KiB be checked alone."""
        image = imported(docker_before_25(), blobs)

        for blob in (image.manifest, image.config, *image.layers):
            measured, index = measure_file(blob_path(blobs, blob.sha256))
            assert measured == blob
            check_index(blob, blob_path(blobs, blob.blocks).read_bytes())
            assert index == blob_path(blobs, blob.blocks).read_bytes()
        assert {one.name for one in blobs.iterdir()} == {
            digest.removeprefix("sha256:")
            for blob in (image.manifest, image.config, *image.layers)
            for digest in (blob.sha256, blob.blocks)
        }

    def test_blobs_are_on_the_disk(self, blobs, monkeypatch):
        """A blob gets its name when its bytes are synced: a power cut leaves no digest with other bytes."""
        disk = Disk(monkeypatch)
        imported(docker_before_25(), blobs)

        assert all(disk.synced(path) for path in blobs.iterdir())

    @pytest.mark.parametrize("form", [docker_before_25, oci_layout])
    def test_bounds(self, blobs, form, monkeypatch):
        """Neither many documents nor a long one, which are held in memory, are read to their end."""
        with monkeypatch.context() as patch:
            patch.setattr("modules.image_import._MAX_DOCUMENTS", 2)
            with pytest.raises(Invalid, match="more than 2 documents"):
                imported(form(), blobs)
        long = tar([("index.json", b"[" + b" " * DOCUMENT_LIMIT)])
        with pytest.raises(Invalid, match=f"a document of more than {DOCUMENT_LIMIT} bytes"):
            imported(long, blobs)
        assert list(blobs.iterdir()) == []

    def test_same_image_same_digests(self, blobs, tmp_path):
        """Importing the same image again, from another form and elsewhere, gives the same digests."""
        (tmp_path / "elsewhere").mkdir()
        first = imported(docker_before_25(), blobs)

        assert imported(docker_before_25(), blobs) == first
        assert imported(oci_layout(), tmp_path / "elsewhere", name="probe:1") == first

    def test_through_a_pipe(self, blobs):
        """An archive can be read as an engine writes it, from a stream without seeking."""
        reading, writing = os.pipe()

        def write():
            with os.fdopen(writing, "wb") as out:
                out.write(docker_before_25())

        writer = threading.Thread(target=write)
        writer.start()
        with os.fdopen(reading, "rb") as stream:
            image = import_archive(stream, blobs)
        writer.join()

        assert image.name == "probe:1"

    def test_repeated_layer(self, blobs):
        """A layer that occurs twice, which Docker saves as a link, is kept once and listed twice."""
        layers = (LAYERS[0], LAYERS[1], LAYERS[0])

        image = imported(docker_before_25(config_of(*layers), layers), blobs)

        assert image.layers[0] == image.layers[2]
        assert b"".join(archive(image, blobs))

    @pytest.mark.parametrize(
        ("fields", "platform"),
        [
            ({"architecture": "amd64"}, "linux/amd64"),
            ({"architecture": "arm64", "variant": "v8"}, "linux/arm64"),
            ({"architecture": "arm", "variant": "v7"}, "linux/arm/v7"),
        ],
    )
    def test_platform(self, fields, platform, blobs):
        """The configuration says for which platform the image is, as a manifest's runtime names it."""
        image = imported(docker_before_25(config_of(*LAYERS, **fields)), blobs)

        assert read_config(image, blobs).platform == platform

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            pytest.param(b"no tar at all" * 100, "not an image archive", id="when it is no tar"),
            pytest.param(tar([("a", b"b")]), "neither manifest.json nor index.json", id="when it is some other tar"),
            pytest.param(
                docker_before_25(layers=LAYERS[::-1]), "the configuration lists", id="when layers are swapped"
            ),
            pytest.param(docker_before_25(layers=LAYERS[:1]), "1 layers where", id="when a layer is missing"),
            pytest.param(tar([("manifest.json", b"[]")]), "0 images", id="when there is no image"),
            pytest.param(
                tar([("manifest.json", b'[{"Config":"a","Layers":[]},{"Config":"b","Layers":[]}]')]),
                "2 images",
                id="when there are two images",
            ),
            pytest.param(
                tar([("manifest.json", b'[{"Config":"a","Layers":["b"]}]')]),
                "does not have it",
                id="when parts are missing",
            ),
            pytest.param(
                oci_layout(compress=lambda data: b"\x28\xb5\x2f\xfd" + data), "zstd", id="when a layer is in zstd"
            ),
            pytest.param(
                oci_layout(compress=lambda data: gzip.compress(data)[:-100]), "too early", id="when a gzip layer is cut"
            ),
            pytest.param(docker_before_25()[:300_000], "not an image archive", id="when the archive is cut"),
            pytest.param(
                tar([("manifest.json", "b"), ("b", "manifest.json"), ("index.json", b"{}")]),
                "index.json",
                id="when links lead in a circle",
            ),
        ],
    )
    def test_refused(self, data, why, blobs):
        """What is no image, or not the image that it says, is refused by name, and leaves nothing behind."""
        with pytest.raises(Invalid, match=why):
            imported(data, blobs)

        assert list(blobs.iterdir()) == []


class TestArchive:
    def test_round_trip(self, blobs, tmp_path):
        """The archive that is written reads back as the same image, byte for byte the same each time."""
        image = imported(docker_before_25(), blobs)
        (tmp_path / "again").mkdir()
        path = tmp_path / "image.tar"
        with path.open("wb") as out:
            write_archive(image, blobs, out)

        assert import_archive(path, tmp_path / "again", name="probe:1") == image
        assert path.read_bytes() == b"".join(archive(image, blobs))

    def test_both_layouts(self, blobs):
        """It is a docker archive and an OCI layout at once, and both lists name the same signed blobs."""
        image = imported(docker_before_25(), blobs)

        with tarfile.open(fileobj=io.BytesIO(b"".join(archive(image, blobs)))) as read:
            docker = json.load(read.extractfile("manifest.json"))
            index = json.load(read.extractfile("index.json"))
            manifest = json.load(read.extractfile(f"blobs/sha256/{image.manifest.sha256[7:]}"))
        assert docker[0]["Config"] == f"blobs/sha256/{image.config.sha256[7:]}"
        assert docker[0]["RepoTags"] == [archive_tag(image)]
        assert [path[13:] for path in docker[0]["Layers"]] == [one.sha256[7:] for one in image.layers]
        assert [one["digest"] for one in index["manifests"]] == [image.manifest.sha256]
        assert [one["digest"] for one in manifest["layers"]] == [one.sha256 for one in image.layers]

    def test_bounded_chunks(self, blobs):
        """The archive is made in pieces of at most 64 KiB, so that memory does not grow with the image."""
        image = imported(docker_before_25(), blobs)

        assert max(len(chunk) for chunk in archive(image, blobs)) <= BLOCK

    @pytest.mark.parametrize("part", ["manifest", "config", "layer"])
    @pytest.mark.parametrize("change", ["flipped", "longer", "shorter", "missing"])
    def test_changed_blob(self, part, change, blobs):
        """A blob that is missing or not what it is named ends the archive, and is named."""
        image = imported(docker_before_25(), blobs)
        blob = {"manifest": image.manifest, "config": image.config, "layer": image.layers[1]}[part]
        path = blob_path(blobs, blob.sha256)
        data = path.read_bytes()
        changed = {"flipped": data[:-1] + bytes([data[-1] ^ 1]), "longer": data + b" ", "shorter": data[:-1]}
        path.unlink()
        if change in changed:
            path.write_bytes(changed[change])

        with pytest.raises(Invalid) as refusal:
            b"".join(archive(image, blobs))

        assert refusal.value.element == blob.sha256

    def test_parts_that_do_not_belong_together(self, blobs):
        """A signed list of parts that the image's own manifest does not list is refused."""
        image = imported(docker_before_25(), blobs)

        with pytest.raises(Invalid, match="other layers"):
            b"".join(archive(msgspec.structs.replace(image, layers=image.layers[::-1]), blobs))


class TestHeld:
    def test_signed_ids(self, blobs):
        """Both names that engines give to an image are accepted with the signed layers."""
        image = imported(docker_before_25(), blobs)
        config = read_config(image, blobs)

        assert image_ids(image) == (image.config.sha256, image.manifest.sha256)
        for name in image_ids(image):
            check_held(image, config, engine_id=name, engine_layers=list(config.rootfs.diff_ids))

    def test_other_content(self, blobs):
        """Another id, other layers, or the same in another order are not what was signed."""
        image = imported(docker_before_25(), blobs)
        config = read_config(image, blobs)
        layers = list(config.rootfs.diff_ids)

        for name, held in [
            (measure_bytes(b"").sha256, layers),
            ("", layers),
            (image.config.sha256, layers[::-1]),
            (image.config.sha256, layers[:1]),
            (image.config.sha256, []),
        ]:
            with pytest.raises(Untrusted):
                check_held(image, config, engine_id=name, engine_layers=held)
