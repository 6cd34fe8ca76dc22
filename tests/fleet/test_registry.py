"""Module versions: reserved, draft, signed."""

import msgspec
import pytest

from fleet.refusals import Conflict, Missing
from modules import manifest as manifests
from modules.digests import sha256
from modules.errors import Invalid
from modules.names import ModuleRef, Slug
from tests.doubles.publisher import module

REF = ModuleRef.parse("acme/digits:1")


@pytest.fixture
def do(small_fleet):
    """Calls a method of the registry in a transaction of its own."""

    def call(method, *arguments):
        with small_fleet.database.write() as connection:
            return getattr(small_fleet.registry, method)(connection, *arguments)

    call.fleet = small_fleet
    return call


def manifest_bytes(do, data=b"graph", *, upload=True, version="1"):
    if upload:
        do.fleet.blobs.put(data)
    return manifests.encode(module("acme", "digits", version, {"model.onnx": data}))


def test_numbers_are_reserved_once_each_and_above_every_version(do):
    """Two publishers at the same time get different versions, and 10 comes after 9."""
    assert [str(do("reserve", 0.0, Slug("acme"), Slug("digits"))) for _ in range(2)] == ["1", "2"]
    do("draft", 0.0, ModuleRef.parse("acme/digits:9.4"), manifest_bytes(do, version="9.4"))
    assert str(do("reserve", 0.0, Slug("acme"), Slug("digits"))) == "10"
    assert str(do("reserve", 0.0, Slug("acme"), Slug("faces"))) == "1"


def test_a_draft_is_taken_once_and_its_bytes_never_change(do):
    """The same bytes again are no news; other bytes are refused."""
    data = manifest_bytes(do)
    assert do("draft", 0.0, REF, data) is True
    assert do("draft", 0.0, REF, data) is False
    assert do("manifest_bytes", REF) == data
    with pytest.raises(Conflict, match="another content"):
        do("draft", 0.0, REF, manifest_bytes(do, b"other"))


def test_a_manifest_without_its_blobs_is_refused_and_they_are_named(do):
    """The publisher reads which files to upload."""
    with pytest.raises(Invalid, match=sha256(b"graph")):
        do("draft", 0.0, REF, manifest_bytes(do, upload=False))


def test_a_manifest_under_another_name_is_refused(do):
    """What the address says and what the manifest says must agree."""
    with pytest.raises(Invalid, match="acme/digits:1's"):
        do("draft", 0.0, ModuleRef.parse("acme/faces:1"), manifest_bytes(do))


def test_only_the_very_bytes_of_a_draft_become_signed(do):
    """Metadata that lists other bytes, another length or no draft at all changes nothing."""
    data = manifest_bytes(do)
    do("draft", 0.0, REF, data)
    for ref, digest, length in (
        (REF, sha256(b"other"), len(data)),
        (REF, sha256(data), 1),
        (ModuleRef.parse("acme/digits:2"), sha256(data), len(data)),
    ):
        with pytest.raises(Invalid):
            do("sign", ref, digest, length)
    assert do("view", REF)["state"] == "draft"
    assert do("sign", REF, sha256(data), len(data)) is True
    assert do("sign", REF, sha256(data), len(data)) is False
    assert do("view", REF)["state"] == "signed"


def test_a_view_shows_the_manifest_as_it_was_sent(do):
    """The manifest in a view is the document behind the digest."""
    data = manifest_bytes(do)
    do("draft", 5.0, REF, data)
    assert do("view", REF) == {
        "ref": "acme/digits:1",
        "digest": sha256(data),
        "state": "draft",
        "created": 5.0,
        "bytes": 5,
        "manifest": msgspec.json.decode(data),
    }


def test_a_list_has_the_newest_version_first_and_no_mere_reservation(do):
    """Versions sort as numbers; what was only reserved is no module yet."""
    for version in ("2", "10", "9"):
        do("draft", 0.0, ModuleRef.parse(f"acme/digits:{version}"), manifest_bytes(do, version=version))
    do("reserve", 0.0, Slug("acme"), Slug("digits"))
    assert [one["ref"] for one in do("view_all")] == ["acme/digits:10", "acme/digits:9", "acme/digits:2"]


def test_what_is_not_there_is_missing(do):
    """A version that nobody uploaded, and one that is only reserved."""
    do("reserve", 0.0, Slug("acme"), Slug("digits"))
    for ref in (REF, ModuleRef.parse("acme/digits:7")):
        with pytest.raises(Missing):
            do("view", ref)
