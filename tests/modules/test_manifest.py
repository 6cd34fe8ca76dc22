"""The manifest: what is a module, and what is refused at the door."""

import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from modules import canonical, manifest
from modules.digests import Blob
from modules.errors import Invalid
from modules.manifest import EntryScript, File, Image, Manifest, OnnxGraph, Proof, Runtime
from modules.settable import Adjustable, check_setting
from tests.modules.documents import manifests

ZERO = "sha256:" + "0" * 64


ONE = "sha256:" + "1" * 64


def file(path, **parts):
    return File(path=path, **{"sha256": ZERO, "length": 1, "blocks": ZERO, **parts})


GOOD = Manifest(
    team="acme",
    name="digits",
    version="3",
    serve=OnnxGraph(file="model.onnx"),
    files=(file("model.onnx"), file("samples.json")),
    runtimes=(Runtime(),),
)


def script(**places):
    return {
        "serve": EntryScript(script="source/score.py", **places),
        "files": (file("source/score.py"), file("samples.json")),
    }


def changed(**fields):
    return canonical.encode(msgspec.structs.replace(GOOD, **fields))


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(document=manifests())
def test_manifest_survives(document):
    """A manifest decodes to itself, and its bytes are the same when encoded again."""
    data = manifest.encode(document)

    assert manifest.decode(data) == document
    assert manifest.encode(manifest.decode(data)) == data


def test_names_itself():
    """A manifest knows its reference and finds its files by path."""
    assert str(GOOD.ref) == "acme/digits:3"
    assert GOOD.file("model.onnx").path == "model.onnx"
    with pytest.raises(Invalid, match=r"other\.onnx: the module has no such file"):
        GOOD.file("other.onnx")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"team": "ACME"}, "team", id="team in capitals"),
        pytest.param({"name": "a/b"}, "name", id="name with a slash"),
        pytest.param({"version": "latest"}, "not a valid version", id="tag for a version"),
        pytest.param({"format": "edgefleet.module/2"}, "format", id="format of the future"),
        pytest.param({"runtimes": ()}, "nothing could run it", id="no runtime"),
        pytest.param({"files": ()}, "no such file", id="no files"),
        pytest.param({"files": (*GOOD.files, file("model.onnx"))}, "same path", id="path twice"),
        pytest.param({"files": (*GOOD.files, file("Model.onnx"))}, "same path", id="path twice but for case"),
        pytest.param({"files": (*GOOD.files, file("model.onnx/a"))}, "below another", id="file below a file"),
        pytest.param(
            {"files": (*GOOD.files, file("Model.ONNX/a"))}, "below another", id="file below a file but for case"
        ),
        pytest.param(
            {"files": (*GOOD.files, file("a/b-c"), file("a/b/c"), file("a/b"))}, "below another", id="file among others"
        ),
        pytest.param({"files": (*GOOD.files, file("a", length=2))}, "another length", id="bytes of two lengths"),
        pytest.param({"files": (*GOOD.files, file("a", blocks=ONE))}, "another block index", id="bytes of two indexes"),
        pytest.param({"files": (*GOOD.files, file("../a"))}, "not a valid path inside", id="path that climbs"),
        pytest.param({"files": (*GOOD.files, file("/a"))}, "not a valid path inside", id="absolute path"),
        pytest.param({"serve": OnnxGraph(file="other.onnx")}, "no such file", id="graph that is not there"),
        pytest.param({"serve": EntryScript(script="source/a.py")}, "no such file", id="script that is not there"),
        pytest.param(script(source="/"), "not a valid path inside", id="source is the whole disk"),
        pytest.param(script(source="lib"), "not below", id="script outside its source"),
        pytest.param(script(model_dir="../../etc"), "not a valid path inside", id="model folder that climbs"),
        pytest.param({"proof": Proof(samples="other.json")}, "no such file", id="samples that are not there"),
        pytest.param({"proof": Proof(ready_within_s=0)}, "ready_within_s", id="no time to get ready"),
        pytest.param({"opaque_files": ("weights.pkl",)}, "no such file", id="opaque file that is not there"),
        pytest.param({"adjustable": {"mounts": Adjustable(default="/")}}, "never be adjustable", id="mounts"),
        pytest.param(
            {"adjustable": {"probation_s": Adjustable(default=1.0, minimum=2.0)}}, "outside", id="default out of bounds"
        ),
    ],
)
def test_refuses(fields, message):
    """What a module cannot be is refused, naming the field."""
    with pytest.raises(Invalid, match=message):
        manifest.decode(changed(**fields))


@pytest.mark.parametrize("where", ["sha256", "blocks"])
def test_refuses_a_tag_where_a_digest_must_stand(where):
    """A file is named by digest and by nothing else."""
    data = canonical.encode(GOOD).replace(f'"{where}":"{ZERO}"'.encode(), f'"{where}":"latest"'.encode())

    with pytest.raises(Invalid, match=where):
        manifest.decode(data)


def test_refuses_unknown_fields_at_every_depth():
    """A field that this version does not know is refused, wherever it stands."""
    document = msgspec.json.decode(canonical.encode(GOOD))
    for part in (document, document["files"][0], document["runtimes"][0], document["proof"], document["serve"]):
        part["surprise"] = 1
        with pytest.raises(Invalid, match="surprise"):
            manifest.decode(canonical.encode(document))
        del part["surprise"]

    assert manifest.decode(canonical.encode(document)) == GOOD


def test_ready_only_needs_no_samples():
    """A module that proves readiness alone may come without samples."""
    alone = msgspec.structs.replace(GOOD, files=GOOD.files[:1], proof=Proof(prove="ready-only"))

    assert manifest.decode(manifest.encode(alone)) == alone


def test_nothing_wrong_is_encoded_to_be_signed():
    """Encoding checks like decoding, so nobody signs a manifest that devices would refuse."""
    with pytest.raises(Invalid, match="nothing could run it"):
        manifest.encode(msgspec.structs.replace(GOOD, runtimes=()))


NUMBER = Adjustable(default=5.0, minimum=1.0, maximum=10.0)
CHOICE = Adjustable(default="info", choices=("info", "debug"))
SWITCH = Adjustable(default=False)


@pytest.mark.parametrize(
    ("setting", "value"),
    [(NUMBER, 1.0), (NUMBER, 10), (CHOICE, "debug"), (SWITCH, True), (Adjustable(default=1.0), -1e15)],
)
def test_takes_settings_within_bounds(setting, value):
    """A value of the default's kind within the declared bounds is taken."""
    check_setting("log_level", setting, value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        (NUMBER, 0.5),
        (NUMBER, 11),
        (NUMBER, float("nan")),
        (Adjustable(default=1.0), float("inf")),
        (NUMBER, True),
        (NUMBER, "5"),
        (CHOICE, "trace"),
        (CHOICE, 1),
        (SWITCH, 1),
        (SWITCH, "yes"),
    ],
)
def test_refuses_settings_out_of_bounds(setting, value):
    """A value of another kind, out of bounds, not a number or not among the choices is refused by name."""
    with pytest.raises(Invalid, match=r"settings\.log_level"):
        check_setting("log_level", setting, value)


@pytest.mark.parametrize(
    ("name", "value"), [("probation_s", 7 * 86400 + 1), ("probation_s", -1), ("score_timeout_ms", 0)]
)
def test_bounds_settings_where_the_manifest_does_not(name, value):
    """A probation of years, or a time-out of nothing, is refused whatever the manifest allows."""
    with pytest.raises(Invalid, match=rf"settings\.{name}: .* is outside"):
        check_setting(name, Adjustable(default=60.0, minimum=-10.0, maximum=1e12), value)


@pytest.mark.parametrize(("given", "confidential"), [(msgspec.UNSET, False), (False, False), (True, True)])
def test_only_a_confidential_manifest_is_another_than_before(given, confidential):
    """The mark is signed with the rest; a manifest without it has no field that agents of before would refuse."""
    document = msgspec.structs.replace(GOOD, confidential=given)
    data = manifest.encode(document)

    assert manifest.decode(data).is_confidential is confidential
    assert (b"confidential" in data) is (given is not msgspec.UNSET)


@pytest.mark.parametrize("value", ["1", '"yes"', "null", "[]"])
def test_refuses_a_mark_that_is_neither_yes_nor_no(value):
    """Nobody has to guess whether a module is confidential."""
    data = manifest.encode(msgspec.structs.replace(GOOD, confidential=True))
    with pytest.raises(Invalid, match="confidential"):
        manifest.decode(data.replace(b'"confidential":true', b'"confidential":' + value.encode()))


def test_refuses_a_layer_of_another_length_than_a_files():
    """A file and a layer of one digest are the same bytes."""
    blob = Blob(sha256=ZERO, length=1, blocks=ZERO)
    image = Image(name="scoring", manifest=blob, config=blob, layers=(blob, Blob(ZERO, 2, ZERO)))

    with pytest.raises(Invalid, match="another length"):
        manifest.decode(changed(runtimes=(Runtime(image=image),)))


def cpu_seconds(data):
    """Of the quickest of three."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        manifest.decode(data)
        taken.append(time.process_time() - began)
    return min(taken)


def test_the_largest_manifest_is_read_in_a_moment():
    """A device reads it between the looks at what it runs: each name is looked up, not looked for."""
    files = (*GOOD.files, *(file(f"{number}") for number in range(4500)))
    opaque = ("4499",) * manifest.MAX_FILES

    assert cpu_seconds(changed(files=files, opaque_files=opaque)) < 4 * cpu_seconds(changed(files=files))
