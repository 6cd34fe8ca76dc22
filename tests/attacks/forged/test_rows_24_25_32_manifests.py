"""Rows 24, 25 and 32 where server, director and publisher are the attacker's: what the device refuses by itself.

Each manifest here is rightly signed, published, named by an order of the server's own, and handed out by it. The honest
server's part, that none of them can be registered, is asked of its API besides.
"""

import json

import pytest

from modules import canonical
from modules.digests import BLOCK, measure_bytes
from tests.attacks.forged.forger import FORGED, GRAPH
from tests.parts.system import TEAM

pytestmark = pytest.mark.long

HEX = "ab" * 32


@pytest.fixture
def edge(forger):
    """The device; afterwards it follows an honest order and is as it was."""
    yield forger.standing
    forger.clears()
    forger.standing.holds()


def refused(forger, what, data, version, **lies):
    """The device refuses it and says why; it runs what it ran, and nothing more lies on its disk. Returns the words."""
    edge, before, followed = forger.standing, forger.kept(), forger.followed()
    reason = forger.refusal(forger.orders(data, version, **lies))
    assert reason["message"].isprintable(), what
    assert len(reason["message"]) < 2000, what
    assert forger.followed() == followed, what
    assert edge.told(FORGED) is None, what
    assert edge.device.slot(FORGED) is None, what
    assert forger.kept().keys() - before.keys() == set(), what
    edge.holds()
    return reason["code"], reason["message"]


def unregistered(forger, what, data, version):
    """The server's API takes no such manifest."""
    with forger.system.server.client() as http:
        answer = http.put(f"/api/v1/modules/{TEAM}/{FORGED}/{version}", content=data)
    assert answer.status_code == 422, (what, answer.text)


NAMES = {
    "above": ["../../beside/x"],
    "above from within": ["model/../../../x"],
    "nothing but above": [".."],
    "absolute": ["/tmp/x"],
    "absolute twice": ["//tmp/x"],
    "a drive": ["C:/x"],
    "hidden": [".ssh/authorized_keys"],
    "a dot": ["model/./x"],
    "twice": ["model/x", "model/x"],
    "the graph again": [GRAPH],
    "case twins": ["model/X", "model/x"],
    "case twins of alphabets": ["model/\u212a", "model/k"],
    "normalised twins": ["model/\u00e9", "model/e\u0301"],
    "wide dots": ["\uff0e\uff0e/x"],
    "backwards": ["model/\u202exnno.x"],
    "below a file": ["model/x", "model/x/y"],
    "below a case twin": ["model/X", "model/x/y"],
    "NUL": ["model/x\0.onnx"],
    "newline": ["model/x\ny"],
    "newline at the end": ["model/x\n"],
    "backslash": ["model\\..\\..\\x"],
    "a folder": ["model/x/"],
    "4 kB": ["x" * 4096],
    "10 kB": ["x" * 10_240],
    "a name of 201": ["x" * 201],
    "a hundred folders": ["a/" * 250 + "x"],
    "no name": [""],
    "no name within": ["model//x"],
}


def test_row_24_no_path_of_a_manifest_leaves_its_folder(forger, edge):
    """Paths that lead out, hide, repeat or mean two things: the order is refused and its refusal says why."""
    for what, paths in NAMES.items():
        document = forger.module()
        (entry,) = document["files"]
        document["files"] += [{**entry, "path": path} for path in paths]
        data = canonical.encode(document)
        unregistered(forger, what, data, document["version"])
        code, words = refused(forger, what, data, document["version"])
        assert code == "invalid", (what, words)
    assert not list(edge.device.folder.rglob("authorized_keys"))
    assert forger.running() == [edge.slot]


SERVED = {"kind": "onnx", "file": GRAPH}


def script(**fields):
    return {"kind": "entry-script", "script": GRAPH, "source": "model", "model_dir": "model"} | fields


FIELDS = {
    "graph above": {"serve": {"kind": "onnx", "file": "../../../identity/device.json"}},
    "graph absolute": {"serve": {"kind": "onnx", "file": "/etc/passwd"}},
    "script above": {"serve": script(script="../x.py")},
    "source above": {"serve": script(source="..")},
    "source absolute": {"serve": script(source="/")},
    "no source": {"serve": script(source="")},
    "model folder above": {"serve": script(model_dir="../../..")},
    "model folder absolute": {"serve": script(model_dir="/run")},
    "a model called ..": {"serve": {"kind": "models", "models": {"m": SERVED, "..": SERVED}, "main": "m"}},
    "samples above": {"proof": {"prove": "samples", "samples": "../../identity/device.json"}},
    "opaque above": {"opaque_files": ["../../identity/device.json"]},
    "a secret above": {"secrets": [{"name": "../x"}]},
    "a secret called ..": {"secrets": [{"name": ".."}]},
    "a secret twice": {"secrets": [{"name": "x"}, {"name": "x"}]},
    "a name above": {"name": "../x"},
    "a team of others": {"team": "others"},
    "another module's": {"name": "digits"},
    "another version": {"version": "77"},
    "the same version otherwise": {"version": "1.0.0.0"},
    "a version above": {"version": "1/../2"},
    "what nobody knows": {"mounts": ["/:/host"]},
    "to be adjusted": {"adjustable": {"image": {"default": "x"}}},
    "no way to run": {"runtimes": []},
}


def test_row_24_nothing_else_in_a_manifest_leads_out(forger, edge):
    """Graph, script, samples, secrets and names that would be another file's, another module's, or the host's."""
    for what, fields in FIELDS.items():
        document = forger.module()
        version = document["version"]
        data = canonical.encode(document | fields)
        unregistered(forger, what, data, version)
        code, words = refused(forger, what, data, version)
        assert code in {"invalid", "untrusted"}, (what, words)
    assert forger.running() == [edge.slot]


def raw(forger):
    """What is no manifest, or only nearly."""
    whole = json.dumps(forger.module()).encode()
    yield "nothing", b""
    yield "null", b"null"
    yield "no JSON", b"PK\x03\x04" + bytes(100)
    yield "two of them", whole + whole
    yield "torn", whole[:-1]
    yield "no UTF-8", whole.replace(b"forged", b"forge\xff")
    yield "half a character", whole.replace(b'"forged"', b'"forged\\ud800"')
    yield "no number", whole.replace(b'"length": 1', b'"length": NaN', 1)
    yield "a fraction", whole.replace(b'"length": 1', b'"length": 1.5', 1)
    yield "too large a number", whole.replace(b'"length": 1', b'"length": 1e400', 1)
    yield "deep", b'{"files":' * 100_000
    yield "a hundred thousand files", many(forger, "files", 100_000)
    yield "a hundred thousand opaque files", many(forger, "opaque_files", 100_000)
    yield "all that fits, opaque, and more", many(forger, "opaque_files", 10_001)


def many(forger, field, count):
    document = forger.module()
    (entry,) = document["files"]
    document[field] = [{**entry, "path": f"{n}"} for n in range(count)] if field == "files" else [GRAPH] * count
    return canonical.encode(document)


def test_row_24_what_is_no_manifest_is_refused_at_once(forger, edge):
    """Torn, deep, empty, and a hundred thousand files: refused, and no step of the agent takes long."""
    for number, (what, data) in enumerate(raw(forger), start=500):
        code, words = refused(forger, what, data, str(number))
        assert code in {"invalid", "untrusted"}, (what, words)
    assert forger.running() == [edge.slot]
    assert edge.device.state.stat().st_size < 1 << 20


NOT_DIGESTS = {
    "a tag": "scoring:cpu",
    "latest": "latest",
    "a short one": "sha256:abc",
    "nothing": "",
    "no algorithm": HEX,
    "SHA-512": f"sha512:{HEX * 2}",
    "SHA-1": f"sha1:{HEX[:40]}",
    "MD5": f"md5:{HEX[:32]}",
    "BLAKE3": f"blake3:{HEX}",
    "capitals": f"SHA256:{HEX}",
    "capital digits": f"sha256:{HEX.upper()}",
    "a newline": f"sha256:{HEX}\n",
    "longer": f"sha256:{HEX}00",
    "a way out": "sha256:../../identity/device.json".ljust(71, "x"),
    "a number": 7,
    "null": None,
}


def places(document):
    """Where digests stand in a manifest."""
    (runtime,), (file,) = document["runtimes"], document["files"]
    image = runtime["image"]
    yield from ((image[name], key) for name in ("manifest", "config") for key in ("sha256", "blocks"))
    yield from ((one, key) for one in (image["layers"][0], file) for key in ("sha256", "blocks"))


def test_row_32_a_manifest_without_digests_is_refused(forger, edge):
    """Tags, short digests and those of another algorithm where an image's, a layer's or a file's sha256 stand: the
    refusal names the field."""
    count = len(list(places(forger.module())))
    for number, (what, digest) in enumerate(NOT_DIGESTS.items()):
        document = forger.module()
        part, key = list(places(document))[number % count]
        part[key] = digest
        data = canonical.encode(document)
        unregistered(forger, what, data, document["version"])
        code, words = refused(forger, what, data, document["version"])
        assert (code, key in words) == ("invalid", True), (what, words)
    assert forger.running() == [edge.slot]


def test_row_32_a_team_that_signs_no_sha256_is_not_believed(forger, edge):
    """What its metadata says of the manifest, with the hash of another algorithm, of other bytes, or none."""
    document = forger.module()
    data = canonical.encode(document)
    for what, hashes in {
        "SHA-512 alone": {"sha512": HEX * 2},
        "MD5": {"md5": HEX[:32]},
        "another manifest's": {"sha256": HEX},
        "a tag": {"sha256": "latest"},
    }.items():
        code, words = refused(forger, what, data, document["version"], hashes=hashes)
        assert code in {"invalid", "untrusted"}, (what, words)
        document = forger.module()
        data = canonical.encode(document)


def lengths(forger):
    """Files whose entry is not what the server has, by how; and of which kind the device's answer is."""
    small, large = b"small" * 20, b"large" * BLOCK
    of_small, of_large = forger.upload(small), forger.upload(large)
    yield "shorter than said", of_small | {"length": len(small) + 1}
    yield "longer than said", of_small | {"length": len(small) - 1}
    yield "a block longer than said", of_large | {"length": len(large) - BLOCK}
    yield "said to be nothing", of_small | {"length": 0}
    yield "nothing, with a foreign digest", measured(b"") | {"sha256": of_small["sha256"]}
    yield "nothing, with a foreign index", measured(b"") | {"blocks": of_small["blocks"]}
    yield "a foreign index", of_large | {"blocks": of_small["blocks"]}
    yield "the large one, by its first bytes", of_large | {"length": BLOCK}
    yield "an index that nobody has", of_large | {"blocks": f"sha256:{HEX}"}
    yield "bytes that nobody has", of_small | {"sha256": f"sha256:{HEX}"}


def measured(data):
    blob = measure_bytes(data)
    return {"sha256": blob.sha256, "length": blob.length, "blocks": blob.blocks}


def test_row_25_a_file_is_as_long_as_was_signed(forger, edge):
    """Longer or shorter than its entry says, or nothing at all with a digest: the module is rejected, or waits for
    bytes that nobody has; it is never laid out, and no blob lies there that is not what it is called."""
    for what, entry in lengths(forger):
        document = forger.module(**entry)
        data = canonical.encode(document)
        forger.orders(data, document["version"])
        edge.device.until(lambda: edge.device.slot(FORGED), f"{what}: the order is followed")
        told = forger.ended()
        assert told["module"] == f"{TEAM}/{FORGED}:{document['version']}"
        assert told["phase"] in {"rejected", "fetching"}, (what, told)
        assert told["reason"]["code"] in {"invalid", "missing", "transfer-stalled"}, (what, told)
        assert told["serving"] is None, (what, told)
        assert not forger.laid_out(data), what
        assert forger.wrong() == [], what
        assert forger.running() == [edge.slot]
        edge.holds()
        forger.clears()


def test_row_25_one_file_is_not_of_two_lengths(forger, edge):
    """Twice the same digest with another length or index, beside each other or with a layer's: no device could ever
    have both, so it is refused rather than fetched again and again."""
    small = forger.upload(b"small" * 20)
    layer = forger.module()["runtimes"][0]["image"]["layers"][0]
    for what, twins in {
        "the wrong one last": [small, small | {"length": 7}],
        "the right one last": [small | {"length": 7}, small],
        "another index": [small, small | {"blocks": f"sha256:{HEX}"}],
        "a layer's": [layer | {"length": 7}],
    }.items():
        document = forger.module()
        document["files"] += [{**one, "path": f"model/{number}"} for number, one in enumerate(twins)]
        data = canonical.encode(document)
        unregistered(forger, what, data, document["version"])
        code, words = refused(forger, what, data, document["version"])
        assert (code, "another length" in words) == ("invalid", True), (what, words)


def test_row_25_a_file_larger_than_the_disk_is_not_begun(forger, edge):
    """A terabyte, which a manifest may say: before the first byte the device says that there is no room, and waits. A
    petabyte no manifest may say."""
    document = forger.module(length=1 << 40)
    before = forger.kept()
    forger.orders(canonical.encode(document), document["version"])
    told = forger.ended()
    assert (told["phase"], told["reason"]["code"]) == ("fetching", "no-space"), told
    new = forger.kept().keys() - before.keys()
    assert not [path for path in new if path.endswith(".part")], new
    edge.holds()
    forger.clears()

    for length in ((1 << 40) + 1, 1 << 50, 1 << 80, -1):
        document = forger.module(length=length)
        data = canonical.encode(document)
        code, words = refused(forger, length, data, document["version"])
        assert (code, "length" in words) == ("invalid", True), (length, words)


def test_row_25_a_manifest_is_as_long_as_was_signed(forger, edge):
    """Where the team signs another length for its manifest than it has, no server can ever give what was signed: the
    device refuses the order, says so, and follows the next one."""
    for more in (1, -1, -BLOCK, BLOCK, 3 * BLOCK):
        document = forger.module()
        document["files"] += [{**document["files"][0], "path": f"model/{'x' * 150}{number}"} for number in range(300)]
        data = canonical.encode(document)
        assert BLOCK < len(data) < 3 * BLOCK
        code, words = refused(forger, more, data, document["version"], length=len(data) + more)
        assert (code, f"{len(data) + more} were signed" in words) == ("untrusted", True), (more, words)
        forger.clears()
    document = forger.module()
    code, words = refused(forger, "nothing", canonical.encode(document), document["version"], length=0)
    assert (code, "no manifest has 0 bytes" in words) == ("untrusted", True), words


def test_row_25_a_manifest_that_nobody_has_is_told_of(forger, edge):
    """Team and director sign the hash of no bytes at all: the server hears of it, nothing of it lies on the device, and
    the next order is followed. The device tries on, for the server or the broker may be the reason."""
    document = forger.module()
    code, words = refused(forger, "no bytes", canonical.encode(document), document["version"], digest=f"sha256:{HEX}")
    assert (code, "does not have it" in words) == ("missing", True), words


def test_row_24_a_manifest_of_a_foreign_path_is_not_fetched(forger, edge):
    """An order for what another team's path names, or for no module's path: refused before a byte is asked for."""
    for what, path in {
        "another team's": "modules/others/forged/1.json",
        "above": f"modules/{TEAM}/../digits/1.json",
        "no module": "trust/director.json",
        "a floor": f"modules/{TEAM}/{FORGED}/floor.json",
        "a version above": f"modules/{TEAM}/{FORGED}/...json",
    }.items():
        document = forger.module()
        code, words = refused(forger, what, canonical.encode(document), document["version"], path=path)
        assert code in {"invalid", "untrusted"}, (what, words)
