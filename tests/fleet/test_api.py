"""The HTTP API on a real server: permissions, problems, and what the flows do not touch."""

import base64
import inspect
import socket
import ssl
import time

import msgspec
import pytest

from fleet import errors
from fleet.auth import need, public
from fleet.offline_keys import DEMO
from fleet.people.roles import PERMISSIONS
from modules import manifest as manifests
from modules.digests import measure_bytes, sha256
from modules.errors import EdgefleetError
from tests.doubles.device import Device, join
from tests.doubles.publisher import Publisher, checked, module
from tests.parts.api_routes import api_routes, unmarked

server_test = pytest.mark.needs("mosquitto")


def test_every_route_needs_a_permission_or_says_that_it_is_public():
    """A new route without a permission cannot be merged."""
    assert len(list(api_routes())) > 20
    assert unmarked() == []


def test_only_health_enrolment_and_log_in_are_public():
    """The list of open doors is this test.

    The list of revoked certificates is as public as all such lists, and pods bring a token that is no operator's.
    """
    assert {route.path for route in api_routes() if public in [one.call for one in route.dependant.dependencies]} == {
        "/healthz",
        "/enroll",
        "/revoked.pem",
        "/api/v1/session",
        "/api/v1/oidc/login",
        "/api/v1/oidc/callback",
        "/api/v1/content/{endpoint}/{module}/metadata/{name}",
        "/api/v1/content/{endpoint}/{module}/blobs/{name}",
        "/api/v1/batch-content/{job}/{module}/metadata/{name}",
        "/api/v1/batch-content/{job}/{module}/blobs/{name}",
    }


def test_only_who_asks_is_looked_up_in_a_thread_of_its_own():
    """Each thread that a request needs has to wait for its turn; under load a page would wait for dozens of them."""

    def below(dependant):
        for one in dependant.dependencies:
            yield one.call
            yield from below(one)

    blocking = {
        one.__name__ if inspect.isfunction(one) else type(one).__name__
        for route in api_routes()
        for one in below(route.dependant)
        if not inspect.iscoroutinefunction(one)
    }
    assert blocking == {"Need", "NeedUnlessOpen", "own", "_admitted", "_admitted_job"}


def test_a_permission_that_does_not_exist_is_a_mistake_at_import():
    """A typing error in a route never reaches a server."""
    assert need("rollout:write").permission in PERMISSIONS
    with pytest.raises(ValueError, match="rollout:wriet"):
        need("rollout:wriet")


def _classes(root):
    yield root
    for kind in root.__subclasses__():
        yield from _classes(kind)


def test_every_error_has_a_status():
    """No error of the tree falls through the table."""
    for kind in _classes(EdgefleetError):
        assert 400 <= errors.status(kind("x")) < 600


def problem(response, status, code):
    """The problem document of a refusal."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document = response.json()
    assert (response.status_code, document["status"], document["code"]) == (status, status, code), document
    return document


@server_test
def test_health_says_whether_the_broker_is_there(fleet):
    """Without a token, and without a word about the fleet."""
    _, http, _ = fleet
    answer = checked(http.get("/healthz", headers={"Authorization": ""})).json()
    assert answer == {
        "status": "ok",
        "version": answer["version"],
        "leader": True,
        "broker": "connected",
        "mishaps": {},
        "warnings": [],
        "notes": [DEMO],  # tests keep the offline keys beside everything else
    }


@server_test
@pytest.mark.parametrize("path", ["/api/v1/devices", "/api/v1/modules", "/api/v1/rollouts", "/api/v1/tuf/root.json"])
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer eft_wrong", "Basic eft_wrong"])
def test_without_a_token_that_holds_nothing_is_told(fleet, path, header):
    """401 as a problem document, whatever is wrong with the token."""
    server, _, _ = fleet
    with server.client() as http:
        problem(http.get(path, headers={"Authorization": header}), 401, "unauthorised")


@server_test
def test_a_join_token_opens_no_route(fleet):
    """What lets a device join does not let it look at the fleet."""
    server, http, _ = fleet
    with server.client(join(http).token) as stranger:
        problem(stranger.get("/api/v1/devices"), 401, "unauthorised")


@server_test
def test_enrolment_over_http_needs_the_token(fleet, tmp_path):
    """A used token is refused with the reason, and the refusal is an event."""
    _, http, _ = fleet
    bundle = join(http)
    assert Device(tmp_path / "a", bundle, "dev-first").enrol().is_success
    problem(Device(tmp_path / "b", bundle, "dev-second").enrol(), 401, "join-spent")
    events = checked(http.get("/api/v1/events")).json()
    assert ("enrolment-refused", "dev-second") in {(one["kind"], one["device"]) for one in events}


@server_test
def test_blobs_go_up_and_come_down(fleet):
    """PUT stores with index, HEAD and GET find it, ranges work, wrong bytes are refused."""
    _, http, _ = fleet
    data = b"0123456789" * 20_000
    blob = measure_bytes(data)
    path = f"/api/v1/blobs/{blob.sha256}"
    assert http.head(path).status_code == 404
    assert http.put(path, content=data).status_code == 201
    assert http.put(path, content=data).status_code == 200
    assert http.head(path).headers["content-length"] == str(len(data))
    assert http.get(path).content == data
    assert http.get(path, headers={"Range": "bytes=10-19"}).content == b"0123456789"
    assert len(http.get(f"/api/v1/blobs/{blob.blocks}").content) == 32 * blob.block_count
    problem(http.put(f"/api/v1/blobs/{sha256(b'x')}", content=b"y"), 422, "invalid")
    problem(http.get(f"/api/v1/blobs/{sha256(b'nowhere')}"), 404, "missing")
    problem(http.get("/api/v1/blobs/latest"), 422, "invalid")


@server_test
def test_a_draft_becomes_signed_only_by_its_teams_metadata(fleet):
    """201, the same again 200, other bytes 409; a rollout of a draft 409; then signed."""
    _, http, owner = fleet
    manifest = owner.upload("api-draft", {"model.onnx": b"one"})
    path = f"/api/v1/modules/acme/api-draft/{manifest.version}"
    data = manifests.encode(manifest)
    assert http.put(path, content=data).status_code == 200
    other = manifests.encode(module("acme", "api-draft", manifest.version, {"other.onnx": b"one"}))
    problem(http.put(path, content=other), 409, "conflict")
    wish = {"module": str(manifest.ref), "slot": "s"}
    problem(http.post("/api/v1/rollouts", json=wish), 409, "conflict")

    foreign = Publisher(http)
    foreign.metadata = owner.metadata
    problem(http.post("/api/v1/tuf/teams/acme", content=foreign.signed_with(manifest)), 422, "untrusted")
    assert checked(http.get(path)).json()["state"] == "draft"

    owner.sign(manifest)
    assert checked(http.get(path)).json()["state"] == "signed"
    assert http.get(f"{path}/manifest").content == data
    assert str(manifest.ref) in {one["ref"] for one in checked(http.get("/api/v1/modules")).json()}


@server_test
def test_metadata_that_lists_what_is_not_here_is_refused_whole(fleet):
    """Nothing is published of metadata whose module was never uploaded."""
    _, http, owner = fleet
    before = http.get("/api/v1/tuf/timestamp.json").content
    ghost = module("acme", "ghost", "1", {"model.onnx": b"x"})
    problem(http.post("/api/v1/tuf/teams/acme", content=owner.signed_with(ghost)), 422, "invalid")
    assert http.get("/api/v1/tuf/team-acme.json").content == owner.metadata
    assert http.get("/api/v1/tuf/timestamp.json").content == before


@server_test
def test_the_same_metadata_again_changes_nothing(fleet):
    """A publisher whose answer was lost sends again, and gets an answer."""
    _, http, owner = fleet
    owner.sign(owner.upload("api-twice", {"model.onnx": b"two"}))
    assert checked(http.post("/api/v1/tuf/teams/acme", content=owner.metadata)).json() == {"signed": []}


@server_test
def test_trust_is_founded_once(fleet):
    """Whoever has an operator's token cannot replace the root."""
    _, http, _ = fleet
    thief = Publisher(http)
    thief.prepare()
    body = {name: base64.b64encode(getattr(thief.founded, name)).decode() for name in ("root", "targets", "director")}
    problem(http.post("/api/v1/tuf-bootstrap", json=body), 409, "conflict")


@server_test
def test_labels_are_replaced_and_select_devices(fleet, tmp_path):
    """PATCH replaces the labels; a selector then finds the device, and says what does not fit."""
    _, http, owner = fleet
    assert Device(tmp_path / "a", join(http), "dev-labels").enrol().is_success
    path = "/api/v1/devices/dev-labels"
    assert checked(http.patch(path, json={"labels": {"site": "paris"}})).json()["labels"] == {"site": "paris"}
    problem(http.patch(path, json={"labels": {"Bad Key": "x"}}), 422, "invalid")
    problem(http.patch("/api/v1/devices/dev-none", json={"labels": {}}), 404, "missing")

    manifest = owner.upload("api-labels", {"model.onnx": b"three"})
    owner.sign(manifest)
    wish = {"module": str(manifest.ref), "slot": "s", "selector": "site=paris"}
    refused = problem(http.post("/api/v1/rollouts", json=wish), 422, "unfit")
    assert "dev-labels: has sent no facts yet" in refused["detail"]


@server_test
@pytest.mark.parametrize(
    ("method", "path", "json", "status", "code"),
    [
        ("GET", "/api/v1/devices/dev-none", None, 404, "missing"),
        ("GET", "/api/v1/devices/UPPER", None, 422, "invalid"),
        ("GET", "/api/v1/rollouts/abc", None, 404, "missing"),
        ("GET", "/api/v1/rollouts/999", None, 404, "missing"),
        ("GET", "/api/v1/tuf/99.root.json", None, 404, "missing"),
        ("GET", "/api/v1/tuf/..%2f..%2fca.key", None, 404, "not-found"),
        ("GET", "/api/v1/modules/acme/none/1", None, 404, "missing"),
        ("GET", "/nothing", None, 404, "not-found"),
        ("PUT", "/healthz", None, 405, "method-not-allowed"),
        ("POST", "/api/v1/rollouts", {"module": "acme/x:1"}, 422, "invalid"),
        ("POST", "/api/v1/rollouts", {"module": "acme/x:1", "slot": "s", "surprise": 1}, 422, "invalid"),
        ("POST", "/api/v1/rollouts/999/explode", None, 422, "invalid"),
        ("POST", "/api/v1/join-tokens", {"uses": 0}, 422, "invalid"),
    ],
)
def test_a_refusal_is_a_problem_document(fleet, method, path, json, status, code):
    """Status, code, element and remedy in one form, for every kind of refusal."""
    _, http, _ = fleet
    document = problem(http.request(method, path, json=json), status, code)
    assert {"type", "title", "status", "detail", "code", "element", "remedy"} == document.keys()


@server_test
def test_bodies_have_bounds(fleet):
    """Too large a document is refused before it is read whole, with or without a token."""
    _, http, _ = fleet
    assert http.post("/enroll", content=b"x" * 100_000).status_code == 413
    assert http.post("/api/v1/rollouts", content=b"x" * 3_000_000).status_code == 413


LONE = b"\\ud800"


@server_test
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/api/v1/devices/dev-any", b'{"labels": {"site": "%s"}}'),
        ("PATCH", "/api/v1/devices/dev-any", b'{"labels": {"%s": "paris"}}'),
        ("PATCH", "/api/v1/devices/dev-any", b'{"labels": {}, "%s": 1}'),
        ("POST", "/api/v1/rollouts", b'{"module": "%s", "slot": "s"}'),
        ("POST", "/api/v1/rollouts", b'{"module": "a/b:1", "slot": "%s"}'),
        ("POST", "/api/v1/rollouts", b'{"module": "a/b:1", "slot": "s", "selector": "%s"}'),
        ("POST", "/api/v1/rollouts", b'{"module": "a/b:1", "slot": "s", "devices": ["%s"]}'),
        ("POST", "/api/v1/rollouts", b'{"module": "a/b:1", "slot": "s", "fallback": "https://%s"}'),
        ("POST", "/api/v1/rollouts", b'{"module": "a/b:1", "slot": "s", "settings": {"%s": "%s"}}'),
        ("POST", "/api/v1/join-tokens", b'{"uses": "%s"}'),
        ("POST", "/api/v1/models/a/%s/versions", b""),
        ("POST", "/enroll", b'{"name": "%s", "token": "%s", "csr": "%s"}'),
    ],
)
def test_half_a_character_is_refused_as_such(fleet, method, path, body):
    """Text that no database can hold is the client's mistake, said as one, wherever it stands."""
    _, http, _ = fleet
    escaped = path.replace("%s", "%ED%A0%80")
    answer = http.request(
        method, escaped, content=body.replace(b"%s", LONE), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {404, 422}, answer.text


@server_test
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "", "application/json; charset=x"])
@pytest.mark.parametrize("body", [b"{}", b"a=b", b"\xff\xfe"])
def test_a_body_that_was_not_sent_as_json_is_refused_as_such(fleet, kind, body):
    """So does curl where nobody tells it otherwise: the answer says what to do, and the server's log stays empty."""
    server, http, _ = fleet
    before = server.log().count("Traceback")
    answer = http.post("/api/v1/rollouts", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 422, answer.text
    if not kind.startswith("application/json"):
        assert "Content-Type: application/json" in answer.json()["detail"]
    assert server.log().count("Traceback") == before


@server_test
@pytest.mark.parametrize("body", [b"{", b"\x98U9", b"[" * 200_000], ids=["broken off", "not UTF-8", "deep"])
def test_a_body_that_is_no_json_is_refused_as_such(fleet, body):
    """The same answer, in whichever way it cannot be read."""
    _, http, _ = fleet
    answer = http.post("/api/v1/rollouts", content=body, headers={"Content-Type": "application/json"})
    document = problem(answer, 422, "invalid")
    assert (document["detail"], document["element"]) == ("the body is no JSON in UTF-8", "body")


@server_test
@pytest.mark.parametrize("tail", [b"Content-Length: 1000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"])
def test_a_body_that_breaks_off_leaves_no_traceback(fleet, tail):
    """Anybody could fill the server's log with them; no token is needed to enrol."""
    server, http, _ = fleet
    before = server.log().count("Traceback")
    context = ssl.create_default_context(cafile=str(server.data.ca))
    host, port = http.base_url.host, http.base_url.port
    with (
        socket.create_connection((host, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.sendall(b"POST /enroll HTTP/1.1\r\nHost: %s\r\n%s" % (host.encode(), tail))
    assert http.get("/healthz").status_code == 200
    time.sleep(0.5)
    assert server.log().count("Traceback") == before


@server_test
def test_one_who_guesses_tokens_has_to_wait_and_locks_nobody_else_out(fleet, tmp_path):
    """After twenty refused tokens an address gets 429 for wrong ones, whatever it says of where it comes from.

    Operators and joining devices behind the same address go on. This test stands last because it shares its address.
    """
    server, http, _ = fleet
    with server.client("eft_guess") as guessing:
        codes = [guessing.get("/api/v1/devices").status_code for _ in range(30)]
        forwarded = guessing.get("/api/v1/devices", headers={"X-Forwarded-For": "192.0.2.7"}).status_code
        bundle = join(http)
        joined = Device(tmp_path / "a", bundle, "dev-behind").enrol()
        wrong = Device(tmp_path / "b", msgspec.structs.replace(bundle, token="eft_guess"), "dev-guess").enrol()

    assert codes[0] == 401
    assert codes[-1] == 429
    assert forwarded == 429
    assert http.get("/api/v1/devices").status_code == 200
    assert joined.is_success
    assert wrong.status_code == 429
