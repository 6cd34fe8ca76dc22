"""Row 43: uploads that are too large, of another kind, named after files of the server, or all of one version."""

import json
import secrets
import socket
import ssl
import threading

import pytest

from modules import manifest as manifests
from modules.digests import sha256
from tests.attacks.api.site import LARGEST
from tests.doubles.publisher import module
from tests.parts.system import TEAM, blob_path

AT_ONCE = 8
DOCUMENT = 2 << 20


@pytest.fixture
def releaser(site, edge):
    """Whoever may upload; nothing that is refused leaves anything behind."""
    token, _ = site.token(role="releaser")
    beside = site.system.folder / "beside"
    before, files = site.everything()["modules"], blobs(site)
    yield token
    assert site.everything()["modules"] == before or "concurrent" in site.note
    assert blobs(site) == files or "concurrent" in site.note
    assert list((site.system.data.blobs / "incoming").iterdir()) == []
    assert not beside.exists()
    site.note = ""
    site.works(edge)


def blobs(site):
    return sorted(str(path) for path in site.system.data.blobs.rglob("*") if path.is_file())


def in_pieces(length):
    """So that the length is told to nobody before."""
    for _ in range(0, length, 1 << 18):
        yield b"x" * (1 << 18)


@pytest.mark.long
def test_row_43_huge_body(site, releaser):
    """A blob above the setting, told or not told before, and documents above two MiB: 413, and nothing is kept."""
    name = sha256(b"huge")
    for content in (b"x" * (LARGEST + 1), in_pieces(4 * LARGEST)):
        answer = site.ask("PUT", f"/api/v1/blobs/{name}", releaser, content=content)
        assert answer.status_code == 413, answer.text
    for method, path, token in (
        ("PUT", f"/api/v1/modules/{TEAM}/huge/1", releaser),
        ("POST", f"/api/v1/tuf/teams/{TEAM}", None),
        ("POST", "/api/v1/rollouts", None),
        ("POST", "/api/v1/session", None),
        ("POST", "/enroll", None),
    ):
        answer = site.ask(method, path, token, content=in_pieces(2 * DOCUMENT))
        assert answer.status_code == 413, (path, answer.status_code, answer.text)
    assert site.ask("HEAD", f"/api/v1/blobs/{name}").status_code == 404


def test_row_43_a_body_that_never_comes(site, releaser):
    """A length of a terabyte is refused at once; one that breaks off leaves nothing behind."""
    name, server = sha256(b"never"), site.system.server
    context = ssl.create_default_context(cafile=str(server.data.ca))
    host, port = server.url.removeprefix("https://").split(":")
    head = f"PUT /api/v1/blobs/{name} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {releaser}\r\n"
    for length in (1 << 40, LARGEST):
        with (
            socket.create_connection((host, int(port)), 20) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            wrapped.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + b"x" * 1000)
    assert site.ask("HEAD", f"/api/v1/blobs/{name}").status_code == 404


def test_row_43_wrong_type(site, releaser):
    """Bytes that are another blob's, and manifests that are none, or a picture, or another module's: 422."""
    name = sha256(b"what was promised")
    answer = site.ask("PUT", f"/api/v1/blobs/{name}", releaser, content=b"what came")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert not blob_path(site.system.data, name).exists()
    other = manifests.encode(module(TEAM, "other", "1", {"model.onnx": b"graph"}))
    for content in (b"", b"\x89PNG\r\n", b"[" * 10_000, b'{"format": 1e999}', b"null", other):
        answer = site.ask("PUT", f"/api/v1/modules/{TEAM}/wrong/1", releaser, content=content)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text


def test_row_43_path_in_a_name(site, releaser):
    """In an address, as a digest, a model's name or a version, and in the list of a manifest's files: no such thing,
    and no file is made beside those that the server keeps."""
    for name in (
        "..%2f..%2fbeside",
        "sha256:..%2f..%2fbeside",
        "%2e%2e/%2e%2e/beside",
        "sha256:" + "/" * 63 + "a",
        "a%00b",
    ):
        for path in (f"/api/v1/blobs/{name}", f"/api/v1/modules/{TEAM}/{name}/1", f"/api/v1/modules/{TEAM}/x/{name}"):
            for method in ("PUT", "GET"):
                answer = site.ask(method, path, releaser, content=b"x")
                assert answer.status_code in {404, 405, 422}, (method, path, answer.text)
    honest = json.loads(manifests.encode(module(TEAM, "pathy", "1", {"model.onnx": b"graph"})))
    for path in ("../beside", "/tmp/beside", "a/../../beside", "a\x00b", "a\\..\\b", "."):
        honest["files"][0]["path"] = honest["serve"]["file"] = path
        answer = site.ask("PUT", f"/api/v1/modules/{TEAM}/pathy/1", releaser, json=honest)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text


def at_once(calls):
    """What each of these says, begun together."""
    found, gate = [], threading.Barrier(len(calls))

    def run(call):
        gate.wait()
        found.append(call())

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return found


def test_row_43_concurrent_publish(site, releaser):
    """Eight with another content each publish one version at once: one is it, whole, and seven are told so; eight who
    ask for the next version get eight."""
    site.note, name = "concurrent", f"race-{secrets.token_hex(3)}"
    contents = [f"graph {number}".encode() for number in range(AT_ONCE)]
    for content in contents:
        answer = site.ask("PUT", f"/api/v1/blobs/{sha256(content)}", releaser, content=content)
        assert answer.status_code == 201
    datas = [manifests.encode(module(TEAM, name, "1", {"model.onnx": content})) for content in contents]
    path = f"/api/v1/modules/{TEAM}/{name}/1"
    codes = at_once([lambda data=data: site.ask("PUT", path, releaser, content=data).status_code for data in datas])
    assert sorted(codes) == [201] + [409] * (AT_ONCE - 1)
    kept = site.ask("GET", f"{path}/manifest", releaser).content
    assert datas.count(kept) == 1
    assert site.answered(site.ask("GET", path, releaser))["digest"] == sha256(kept)
    for data in datas:
        assert site.ask("PUT", path, releaser, content=data).status_code == (200 if data == kept else 409)
    with_it = [row for row in site.everything()["modules"] if name in row]
    assert len(with_it) == 1
    reserve = f"/api/v1/models/{TEAM}/{name}/versions"
    given = at_once([lambda: site.answered(site.ask("POST", reserve, releaser))["version"]] * AT_ONCE)
    assert sorted(given, key=int) == [str(number) for number in range(2, AT_ONCE + 2)]
    site.answered(site.ask("DELETE", path))
