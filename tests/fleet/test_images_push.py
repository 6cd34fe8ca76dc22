"""Images into a real registry: the signed bytes by their digest, nothing twice, and credentials to nobody else."""

import http.server
import json
import random
import ssl
import threading

import httpx
import pytest

from fleet import images_push
from fleet.authority import Authority
from fleet.images_push import Registry, push, reference
from modules.digests import measure_bytes
from modules.errors import BadSettings, Invalid, LinkLost, NeedsOperator
from modules.manifest import Image
from modules.oci import manifest_bytes
from tests.parts.connect_proxy import ConnectProxy
from tests.parts.docker_registry import PASSWORD, USER, docker_registry, token_service
from tests.parts.mosquitto import HOST
from tests.parts.proxy import Proxy

pytestmark = pytest.mark.needs("docker-registry")
LAYERS = [random.Random(n).randbytes(size) for n, size in enumerate((3 << 20, 100_003, 1))]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("registry") / "here") as one:
        yield one


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(images_push, "_WAIT_S", 0.01)


@pytest.fixture
def blobs(tmp_path):
    (tmp_path / "blobs").mkdir()
    return tmp_path / "blobs"


def image(blobs, layers=LAYERS, salt=""):
    """An image of these layers, all of whose blobs are in the folder."""
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}, "a": salt}
    )
    parts = [measure_bytes(data) for data in (config.encode(), *layers)]
    manifest = manifest_bytes(parts[0], parts[1:])
    for data in (manifest, config.encode(), *layers):
        (blobs / measure_bytes(data).sha256.removeprefix("sha256:")).write_bytes(data)
    return Image(name="x", manifest=measure_bytes(manifest), config=parts[0], layers=tuple(parts[1:]))


def of(running, repository="fleet/digits", **more):
    return Registry(
        **{"address": f"{running.address}/{repository}", "user": USER, "password": PASSWORD, "ca": running.ca} | more
    )


def stored(running, path):
    """What the registry itself answers at a path of its repository."""
    context = ssl.create_default_context(cadata=running.ca)
    with httpx.Client(verify=context, auth=(USER, PASSWORD), trust_env=False) as http_client:
        return http_client.get(
            f"https://{running.address}/v2/fleet/digits/{path}",
            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        )


def test_the_signed_manifest_is_there_by_its_digest(running, blobs):
    """Byte for byte, with every blob; the reference is what a cluster pulls."""
    made = image(blobs)
    told = []
    name = push(of(running), made, blobs, progress=lambda *given: told.append(given))

    assert name == reference(of(running), made) == f"{running.address}/fleet/digits@{made.manifest.sha256}"
    found = stored(running, f"manifests/{made.manifest.sha256}")
    assert measure_bytes(found.content) == made.manifest
    for blob, data in zip(made.layers, LAYERS, strict=True):
        assert stored(running, f"blobs/{blob.sha256}").content == data
        assert (blob.sha256, blob.length, blob.length) in told


def test_what_is_there_is_not_sent_again(running, blobs, monkeypatch):
    """A layer that another image has brought, and the whole image once more."""
    push(of(running), image(blobs, salt="first"), blobs)
    methods = []
    exchange = images_push._Session._exchange
    monkeypatch.setattr(
        images_push._Session, "_exchange",
        lambda self, at, method, *more: (methods.append(method), exchange(self, at, method, *more))[1],
    )  # fmt: skip
    push(of(running), image(blobs, salt="second"), blobs)
    assert methods.count("PATCH") == 1  # the configuration alone is new
    methods.clear()
    push(of(running), image(blobs, salt="second"), blobs)
    assert methods.count("PATCH") == methods.count("POST") == 0


def test_a_token_service_is_asked_with_the_password(tmp_path, blobs):
    """The registry names it; it gets the password, the registry gets the token."""
    authority = Authority.create("registry")
    with (
        token_service(authority) as (realm, asked),
        docker_registry(tmp_path / "here", token_realm=realm, authority=authority) as running,
    ):
        made = image(blobs)
        assert push(of(running), made, blobs) == reference(of(running), made)
        assert {one.scope for one in asked} >= {"repository:fleet/digits:pull", "repository:fleet/digits:pull,push"}
        with pytest.raises(NeedsOperator, match="wrong password"):
            push(of(running, password="other"), image(blobs, salt="new"), blobs)


def test_the_proxy_of_the_environment_is_followed(tmp_path, blobs, monkeypatch):
    """The registry is reached through it, with what it wants to know; not where no_proxy names it, nor without TLS."""
    authority, proxy = Authority.create("registry"), ConnectProxy()
    monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(images_push, "_TOGETHER", 1)  # this proxy serves one at a time
    try:
        with (
            token_service(authority) as (realm, _),
            docker_registry(tmp_path / "here", token_realm=realm, authority=authority) as running,
        ):
            push(of(running), image(blobs, salt="proxy"), blobs)
            asked = {to for to, _ in proxy.asked}
            assert asked == {running.address.removeprefix("https://")}
            assert {secret for _, secret in proxy.asked} == {"Basic bWU6c2VjcmV0"}
            before = len(proxy.asked)
            monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
            push(of(running), image(blobs, salt="straight"), blobs)
            assert len(proxy.asked) == before
    finally:
        proxy.close()


def test_who_may_not_is_told_so(running, blobs):
    """A wrong password, or none."""
    for more in ({"password": "other"}, {"user": "", "password": ""}):
        with pytest.raises(NeedsOperator, match=r"answers 401.*may push there"):
            push(of(running, **more), image(blobs, salt="never"), blobs)


def test_another_authority_is_not_believed(running, blobs):
    """The password is not even sent."""
    with pytest.raises(NeedsOperator, match="certificate does not hold"):
        push(of(running, ca=Authority.create("another").pem), image(blobs), blobs)


def test_a_blob_that_was_changed_here_is_not_published(running, blobs):
    """Its bytes are checked as they go, and the registry would refuse them besides."""
    made = image(blobs, salt="changed")
    path = blobs / made.config.sha256.removeprefix("sha256:")
    path.write_bytes(path.read_bytes().replace(b"linux", b"l1nux"))
    with pytest.raises(Invalid, match="changed on disk"):
        push(of(running), made, blobs)
    assert stored(running, f"manifests/{made.manifest.sha256}").status_code == 404


def test_a_connection_that_breaks_is_no_end(running, blobs):
    """In the middle of a layer: it goes on, or begins again where the registry has forgotten the upload."""
    layer = random.Random(9).randbytes(6 << 20)
    made = image(blobs, [layer], salt="broken")
    broken = threading.Event()
    with Proxy(int(running.address.rpartition(":")[2])) as proxy:

        def cut(_digest, at, _length):
            if at > len(layer) // 2 and not broken.is_set():
                broken.set()
                proxy.cut()
                proxy.mend()

        name = push(of(running, address=f"{HOST}:{proxy.port}/fleet/digits"), made, blobs, progress=cut)
    assert broken.is_set()
    assert name.endswith(made.manifest.sha256)
    assert stored(running, f"blobs/{made.layers[0].sha256}").content == layer


class Pointing:
    """A registry of TLS that points elsewhere, and notes what it was asked with."""

    def __init__(self, folder, elsewhere="", *, patch=None):
        self.asked, double = [], self
        self.there = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                double.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
                status, fields = double.reply(self.command, self.path, body)
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET = do_POST = do_PATCH = do_PUT = answer  # noqa: N815 - as the library calls it

            def log_message(self, *_):
                """Say nothing."""

        self.elsewhere, self.patch = elsewhere, patch
        self.authority = Authority.create("pointing")
        pem = folder / f"pointing-{len(list(folder.iterdir()))}.pem"
        self.authority.server([HOST]).write(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, pem.with_suffix(".key"))
        self._server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self._server.handle_error = lambda *_: None
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.address = f"{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.got = 0

    def reply(self, method, path, body):
        """As a registry that has nothing; uploads go ``elsewhere``."""
        if not self.asked[-1][2] and not self.elsewhere.startswith("no password"):
            return 401, {"WWW-Authenticate": 'Basic realm="x"'}
        if method == "HEAD":
            return (200 if "/manifests/" in path else 404), {}
        if method == "POST":
            return 202, {"Location": (self.elsewhere or "/upload/1").removeprefix("no password ")}
        if method == "PATCH":
            self.got += len(body)
            if self.patch and self.patch():
                return 500, {}
            return 202, {"Location": "/upload/1?state=2"}
        if method == "GET":
            return 204, {"Range": f"0-{max(self.got - 1, 0)}"}
        return 201, {}

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_credentials_go_to_no_other_host(tmp_path, blobs):
    """An upload that is pointed elsewhere gets the bytes at most, and without TLS nothing."""
    with Pointing(tmp_path, elsewhere="no password /upload/1") as storage:
        with Pointing(tmp_path, elsewhere=f"https://{storage.address}/elsewhere") as one:
            ca = one.authority.pem + storage.authority.pem
            push(Registry(address=f"{one.address}/x", user="u", password="p", ca=ca), image(blobs, []), blobs)
            assert any(authorization for _, _, authorization in one.asked)
        assert [path for method, path, _ in storage.asked if method == "PATCH"] == ["/elsewhere"]
        assert {authorization for _, _, authorization in storage.asked} == {""}
    with (
        Pointing(tmp_path, elsewhere="http://127.0.0.1:9/elsewhere") as one,
        pytest.raises(NeedsOperator, match="without TLS"),
    ):
        push(
            Registry(address=f"{one.address}/x", user="u", password="p", ca=one.authority.pem), image(blobs, []), blobs
        )


def test_an_upload_goes_on_where_the_registry_has_got_to(tmp_path, blobs):
    """It took all bytes and then failed: they are not sent again."""
    failures = iter([True])
    with Pointing(tmp_path, patch=lambda: next(failures, False)) as one:
        made = image(blobs, [])
        push(Registry(address=f"{one.address}/x", user="u", password="p", ca=one.authority.pem), made, blobs)
        assert one.got == made.config.length
        assert [method for method, _, _ in one.asked].count("PATCH") == 1


ANSWERS = {
    "it fails": (lambda *_: (500, {}), LinkLost, "answers 500"),
    "its token service has no TLS": (
        lambda *_: (401, {"WWW-Authenticate": 'Bearer realm="http://tokens.example/t",service="x"'}),
        NeedsOperator,
        "has no TLS",
    ),
    "it keeps manifests otherwise": (
        lambda method, path, _: ({"PUT": 201}.get(method, 404 if "/manifests/" in path else 200), {}),
        NeedsOperator,
        "does not have it by its digest",
    ),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_registry_that_is_no_use_is_left(tmp_path, blobs, answer):
    """After a few tries at most, with what it answered; the password goes nowhere in clear."""
    reply, error, why = ANSWERS[answer]
    made = image(blobs, [])
    with Pointing(tmp_path) as one:
        one.reply = reply
        registry = Registry(address=f"{one.address}/x", user="u", password="p", ca=one.authority.pem)
        with pytest.raises(error, match=why):
            push(registry, made, blobs)


@pytest.mark.parametrize(
    ("address", "more", "why"),
    [
        ("registry.example", {}, "is no repository"),
        ("registry.example/Digits", {}, "is no repository"),
        ("registry.example/a/../b", {}, "is no repository"),
        ("ftp://registry.example/a", {}, "no registry's address"),
        ("u:p@registry.example/a", {}, "no registry's address"),
        ("registry.example:99999/a", {}, "cannot be read"),
        ("http://registry.example/a", {"user": "u"}, "over TLS alone"),
        ("registry.example/a", {"ca": "nonsense"}, "no certificates"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(blobs, address, more, why):
    """And a password goes nowhere in clear."""
    with pytest.raises(BadSettings, match=why):
        push(Registry(address=address, **more), image(blobs), blobs)
