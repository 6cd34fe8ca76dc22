"""Rows 23 and 46 of the attack list, as far as joining goes: a real server, asked as devices and guessers ask it."""

import http as codes
import ssl

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fleet.attempts import ALLOWED_ALL
from modules import canonical
from modules.protocol.enrollment import EnrollRequest, JoinBundle
from tests.doubles.door import new_key, request
from tests.doubles.publisher import Publisher, checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("mosquitto")


class Gate:
    """The server's open door; every request may say that it comes from elsewhere, for a proxy is believed here."""

    def __init__(self, server, operator):
        self.operator = operator
        context = ssl.create_default_context(cafile=str(server.data.ca))
        self.http = httpx.Client(base_url=server.url, verify=context, timeout=stretched(60), trust_env=False)

    def bundle(self, path="join-tokens", **wish):
        data = checked(self.operator.post(f"/api/v1/{path}", json=wish)).content
        return canonical.decode(data, JoinBundle, limit=1 << 20, what="join bundle")

    def ask(self, token, csr=None, name=None, *, address="192.0.2.1"):
        """Status, and the code of a refusal."""
        body = canonical.encode(EnrollRequest(token=token, csr=csr or request(new_key()), name=name))
        answer = self.http.post("/enroll", content=body, headers={"X-Forwarded-For": address})
        return answer.status_code, answer.json().get("code")

    def devices(self):
        return {one["id"] for one in checked(self.operator.get("/api/v1/devices")).json()}

    def refusals(self):
        """Of the newest events, the texts of refused enrolments."""
        found = checked(self.operator.get("/api/v1/events", params={"limit": 1000})).json()
        return [one["message"] for one in found if one["kind"] == "enrolment-refused"]


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    data = initialise(folder / "data")
    with (
        broker(folder / "broker", data) as running,
        fleet_server(data, running, trusted_proxies="127.0.0.1") as server,
        server.client() as operator,
    ):
        Publisher(operator).found()
        made = Gate(server, operator)
        yield made
        made.http.close()


def of_another_curve():
    return request(ec.generate_private_key(ec.SECP384R1()))


def of_rsa():
    return request(rsa.generate_private_key(65537, 2048))


def of_nothing():
    return "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize("csr", [of_another_curve, of_rsa, of_nothing], ids=lambda one: one.__name__)
def test_row_23_a_request_that_proves_nothing_joins_nothing(gate, csr):
    """Another curve, RSA, no request: refused with its code, an event, and the bundle's use is still there."""
    before, token = gate.devices(), gate.bundle().token
    assert gate.ask(token, csr(), "dev-strange", address="192.0.2.10") == (
        codes.HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid",
    )
    assert gate.devices() == before
    assert any(text.startswith("invalid, from 192.0.2.10") for text in gate.refusals())
    assert gate.ask(token)[0] == codes.HTTPStatus.OK


def test_row_23_a_request_to_be_an_authority_makes_a_device(gate):
    """What a request wishes beside its key is not even read."""
    key = new_key()
    csr = request(key, extensions=(x509.BasicConstraints(ca=True, path_length=None),))
    body = canonical.encode(EnrollRequest(token=gate.bundle().token, csr=csr, name="dev-authority"))
    pem = checked(gate.http.post("/enroll", content=body)).json()["certificate"]
    extensions = x509.load_pem_x509_certificate(pem.encode()).extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_row_23_each_token_that_lets_nobody_in_has_its_code(gate):
    """Guessed, spent, revoked, for another name, a name that is taken: an event with the code for each, no device."""
    spent, revoked, taken = gate.bundle().token, gate.bundle().token, gate.bundle().token
    last = checked(gate.operator.get("/api/v1/joins")).json()
    checked(gate.operator.delete(f"/api/v1/joins/{last[1]['id']}"))
    assert gate.ask(spent, name="dev-first")[0] == codes.HTTPStatus.OK
    other = gate.bundle("devices/dev-first/readmit").token
    before = gate.devices()
    wanted = {
        "unauthorised": ("eft_" + "x" * 43, "dev-x"),
        "join-spent": (spent, "dev-x"),
        "join-revoked": (revoked, "dev-x"),
        "wrong-name": (other, "dev-x"),
        "name-taken": (taken, "dev-first"),
    }
    for code, (token, name) in wanted.items():
        status, said = gate.ask(token, name=name, address="192.0.2.20")
        assert (said, status in {401, 403, 409}) == (code, True)
    assert gate.devices() == before
    heard = {text.split(",")[0] for text in gate.refusals() if "192.0.2.20" in text}
    assert heard == set(wanted)


def test_row_46_one_key_that_asks_again_and_again_makes_no_rows(gate):
    """A hundred requests with one bundle: one device, one certificate, one event."""
    token, csr = gate.bundle().token, request(new_key())
    answers = {gate.ask(token, csr, "dev-again") for _ in range(100)}
    assert answers == {(codes.HTTPStatus.OK, None)}
    events = checked(gate.operator.get("/api/v1/events", params={"limit": 1000})).json()
    assert [one["kind"] for one in events if one["device"] == "dev-again"] == ["enrolled"]


def test_row_23_guesses_from_many_addresses_fill_neither_log_nor_database(gate):
    """After so many in a minute, of all addresses, each gets 429 and leaves nothing; a true bundle joins meanwhile."""
    before, token = len(gate.refusals()), gate.bundle().token
    answers = [gate.ask("eft_guess", address=f"198.51.100.{n % 50}")[0] for n in range(ALLOWED_ALL + 100)]
    assert set(answers) == {codes.HTTPStatus.UNAUTHORIZED, codes.HTTPStatus.TOO_MANY_REQUESTS}
    assert answers[-1] == codes.HTTPStatus.TOO_MANY_REQUESTS
    # Those of the tests before count, too, as far as they are of the same minute.
    assert len(gate.refusals()) - before <= ALLOWED_ALL
    assert answers.count(codes.HTTPStatus.UNAUTHORIZED) <= ALLOWED_ALL
    assert gate.ask(token, name="dev-honest")[0] == codes.HTTPStatus.OK
    assert "dev-honest" in gate.devices()
