"""First contact with a real HTTPS server: the key stays here, only the bundle's fleet is believed."""

import http.server
import io
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent import identity
from agent.__main__ import main
from agent.enroll import enroll
from modules import canonical
from modules.errors import BadSettings, Invalid, LinkLost, Untrusted
from modules.names import device_id
from modules.protocol import join_code
from modules.protocol.enrollment import Broker, EnrollAnswer, EnrollPending, EnrollRequest, JoinBundle
from tests.parts.connect_proxy import ConnectProxy

BROKER = Broker(host="127.0.0.1", port=8883)
NAME = device_id("dev-1")


class Authority:
    """A throw-away CA."""

    def __init__(self, name="the fleet") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign(name, self.key.public_key(), ca=True)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, name, public, *, ca=False):
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if ca else self.certificate.subject
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def write_server(self, folder):
        key = ec.generate_private_key(ec.SECP256R1())
        path = folder / "server.pem"
        pem = serialization.Encoding.PEM
        path.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + self.sign("server", key.public_key()).public_bytes(pem)
        )
        return path


class Fleet:
    """The server's ``POST /enroll``; ``answer`` makes (status, body) of a request."""

    def __init__(self, folder) -> None:
        self.ca = self.issuer = Authority()
        self.requests: list[EnrollRequest] = []
        self.answer = self.sign
        fleet = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fleet.requests.append(msgspec.json.decode(body, type=EnrollRequest))
                status, answer = fleet.answer(fleet.requests[-1])
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # a client that does not trust us goes away; that is what some tests are about

        self.server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca.write_server(folder))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.address = f"https://127.0.0.1:{self.server.server_port}"

    def sign(self, request, *, name=NAME, public=None):
        public = public or x509.load_pem_x509_csr(request.csr.encode()).public_key()
        pem = self.issuer.sign(name, public).public_bytes(serialization.Encoding.PEM).decode()
        return 200, canonical.encode(EnrollAnswer(device=NAME, certificate=pem))

    def bundle(self, **more) -> bytes:
        given = {"fleet": self.address, "broker": BROKER, "ca": self.ca.pem, "root": b"root", "token": "t"} | more
        return canonical.encode(JoinBundle(**given))

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


@pytest.fixture
def fleet(tmp_path):
    one = Fleet(tmp_path)
    yield one
    one.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "identity"


def test_a_device_joins_its_fleet(fleet, folder):
    """It gets its certificate, keeps key, CA and root for itself alone, and is then enrolled."""
    joined = enroll(fleet.bundle(), folder, name=NAME)

    assert identity.load(folder) == joined == identity.Identity(device=NAME, fleet=fleet.address, broker=BROKER)
    assert (folder / "root.json").read_bytes() == b"root"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert (fleet.requests[0].token, fleet.requests[0].name) == ("t", NAME)


def test_the_private_key_stays_on_the_device(fleet, folder):
    """What is sent is a signing request for the key that is kept."""
    enroll(fleet.bundle(), folder)
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)

    request = x509.load_pem_x509_csr(fleet.requests[0].csr.encode())
    assert request.public_key() == key.public_key()
    assert "PRIVATE" not in fleet.requests[0].csr


def test_an_enrolled_device_is_not_enrolled_again(fleet, folder):
    """Nothing replaces an identity."""
    enroll(fleet.bundle(), folder)
    with pytest.raises(BadSettings, match="enrolled already"):
        enroll(fleet.bundle(), folder)

    assert len(fleet.requests) == 1


def other_ca(fleet):
    return fleet.bundle(ca=Authority().pem)


def nobody_there(fleet):
    return fleet.bundle(fleet="https://127.0.0.1:1")


@pytest.mark.parametrize(
    ("bundle", "error", "words"),
    [
        (other_ca, LinkLost, "cannot be reached"),
        (nobody_there, LinkLost, "cannot be reached"),
        (lambda fleet: fleet.bundle(ca=""), Invalid, "authorities are not certificates"),
        (lambda fleet: fleet.bundle(ca="none"), Invalid, "authorities are not certificates"),
        (lambda fleet: fleet.bundle(fleet=fleet.address.replace("https", "http")), BadSettings, "not an https"),
        (lambda _: b"{}", Invalid, "join bundle"),
    ],
    ids=["other CA", "nobody there", "no CA", "CA of words", "http", "no bundle"],
)
def test_a_bundle_that_does_not_lead_to_its_fleet_leaves_nothing(fleet, folder, bundle, error, words):
    """Another CA, no server, no CA, no TLS, no bundle: each has its error; the token is not sent."""
    with pytest.raises(error, match=words):
        enroll(bundle(fleet), folder)

    assert fleet.requests == []
    assert not folder.exists() or [path.name for path in folder.iterdir()] == ["key.pem"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda _: (403, b'{"detail": "the token was used"}'), Untrusted, "403: the token was used"),
        (lambda _: (200, b"{}"), Invalid, "enrolment answer"),
        (lambda _: (200, canonical.encode(EnrollAnswer(device=NAME, certificate="none"))), Untrusted, "no certificate"),
    ],
    ids=["refused", "no answer", "no certificate"],
)
def test_an_answer_that_is_none_leaves_nothing(fleet, folder, answer, error, words):
    """A refusal or garbage is told with the server's words, and nothing is kept."""
    fleet.answer = answer
    with pytest.raises(error, match=words):
        enroll(fleet.bundle(), folder)

    assert not folder.exists()


def test_the_words_of_a_refusal_are_one_line_on_a_terminal(fleet, tmp_path, monkeypatch, capsys):
    """Whoever answers, a hostile broker too, clears no screen and writes no second line that says it went well."""
    words = "no\x1b[2J\x1b]0;title\x07\r\nenrolled as dev-1\n\u202e"
    fleet.answer = lambda _: (403, msgspec.json.encode({"detail": words, "remedy": words}))
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("EDGEFLEET_AGENT_RUNTIME", str(tmp_path / "run"))
    bundle = tmp_path / "join.json"
    bundle.write_bytes(fleet.bundle())

    assert main(["enroll", str(bundle)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("edgefleet-agent: ")
    assert line.isprintable()


def test_a_device_joins_by_what_a_scanner_types(fleet, tmp_path, monkeypatch, capsys):
    """A line on standard input, which stays open: nobody has to end it."""
    code = join_code.encode(msgspec.json.decode(fleet.bundle(), type=JoinBundle))
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("EDGEFLEET_AGENT_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Typed(code.encode() + b"\n"))))

    assert main(["enroll", "-"]) == 0
    assert capsys.readouterr().out == f"enrolled as {NAME} at {fleet.address}\n"
    assert (tmp_path / "state/identity/root.json").read_bytes() == b"root"


def test_a_bundles_file_comes_by_standard_input(fleet, tmp_path, monkeypatch, capsys):
    """All of it, however many lines it has."""
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("EDGEFLEET_AGENT_RUNTIME", str(tmp_path / "run"))
    lines = msgspec.json.format(fleet.bundle())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))

    assert lines.count(b"\n") > 5
    assert main(["enroll", "-"]) == 0
    assert "enrolled as" in capsys.readouterr().out


class Typed(io.RawIOBase):
    """What is typed, after which nothing comes and nothing ends; whoever reads on would wait for ever."""

    def __init__(self, text) -> None:
        self._text = text

    def readable(self):
        return True

    def readinto(self, buffer):
        assert self._text, "it reads on"
        part, self._text = self._text[: len(buffer)], self._text[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def test_a_certificate_of_another_authority_is_refused(fleet, folder):
    """Whoever is in between can answer with a certificate for this key and name; it is not the fleet's."""

    def forged(request):
        public = x509.load_pem_x509_csr(request.csr.encode()).public_key()
        pem = Authority().sign(NAME, public).public_bytes(serialization.Encoding.PEM).decode()
        return 200, canonical.encode(EnrollAnswer(device=NAME, certificate=pem))

    fleet.answer = forged
    with pytest.raises(Untrusted, match="not of the fleet's CA"):
        enroll(fleet.bundle(), folder)
    assert not folder.exists()


def test_a_server_that_has_too_much_to_do_costs_no_key(fleet, folder):
    """429 is a matter of time: the next try has the same key."""
    fleet.answer = lambda _: (429, b'{"detail": "wait a minute"}')
    with pytest.raises(LinkLost, match="wait a minute"):
        enroll(fleet.bundle(), folder)
    key = (folder / "key.pem").read_bytes()
    fleet.answer = fleet.sign
    enroll(fleet.bundle(), folder)
    assert (folder / "key.pem").read_bytes() == key


def test_a_server_that_shows_another_fingerprint_is_not_waited_for(fleet, folder):
    """An operator would approve a key that is not this device's."""
    other = EnrollPending(device=NAME, fingerprint="0" * 64, expires=1.0)
    fleet.answer = lambda _: (202, canonical.encode(other))
    with pytest.raises(Untrusted, match="another key than this device's"):
        enroll(fleet.bundle(), folder)
    assert not folder.exists()


@pytest.mark.parametrize("wrong", ["key", "name"])
def test_a_certificate_for_somebody_else_is_refused(fleet, folder, wrong):
    """A certificate for another key or another device is not kept."""
    other = {"key": {"public": ec.generate_private_key(ec.SECP256R1()).public_key()}, "name": {"name": "dev-2"}}
    fleet.answer = lambda request: fleet.sign(request, **other[wrong])
    with pytest.raises(Untrusted, match="another key or another device"):
        enroll(fleet.bundle(), folder)

    assert not folder.exists()


def test_an_answer_that_got_lost_is_asked_for_with_the_same_key(fleet, folder):
    """A server that failed after it had taken the token gives its answer when the same key asks again."""
    fleet.answer = lambda _: (500, b"oops")
    with pytest.raises(LinkLost, match="500: b'oops'"):
        enroll(fleet.bundle(), folder)
    fleet.answer = fleet.sign

    assert enroll(fleet.bundle(), folder).device == NAME
    assert len(fleet.requests) == 2
    assert len(set(map(public_key, fleet.requests))) == 1


def public_key(request):
    key = x509.load_pem_x509_csr(request.csr.encode()).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_folder_that_cannot_be_written_costs_no_token(fleet, folder):
    """The server is not asked before the key is safely on the disk."""
    folder.write_text("a file stands where the folder belongs")
    with pytest.raises(BadSettings, match="cannot be written"):
        enroll(fleet.bundle(), folder)

    assert fleet.requests == []


def test_a_server_behind_another_authority_is_believed_where_the_bundle_says_so(fleet, folder):
    """A proxy with a company's certificate: the bundle names that authority beside the fleet's own."""
    company, fleet_ca = fleet.ca.pem, Authority("another fleet")
    fleet.issuer = fleet_ca
    bundle = fleet.bundle(ca=fleet_ca.pem, fleet_ca=company)

    assert enroll(bundle, folder).device == NAME
    assert (folder / "ca.pem").read_text() == fleet_ca.pem


def test_enrolment_goes_through_the_proxy_of_the_environment(fleet, folder, monkeypatch, connect_proxy):
    """https_proxy is followed with its password, and no_proxy goes straight."""
    monkeypatch.setenv("https_proxy", f"http://user:pass%20word@127.0.0.1:{connect_proxy.port}")
    monkeypatch.setenv("no_proxy", "")

    assert enroll(fleet.bundle(), folder).device == NAME
    assert connect_proxy.asked == [(fleet.address.removeprefix("https://"), "Basic dXNlcjpwYXNzIHdvcmQ=")]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert enroll(fleet.bundle(), folder.with_name("second")).device == NAME
    assert len(connect_proxy.asked) == 1


@pytest.fixture
def connect_proxy():
    one = ConnectProxy()
    yield one
    one.close()


def test_an_identity_that_is_damaged_is_named(fleet, folder):
    """Not enrolled, a missing part, and a damaged file each say what to do."""
    with pytest.raises(BadSettings, match="not enrolled"):
        identity.load(folder)
    enroll(fleet.bundle(), folder)
    (folder / "ca.pem").unlink()
    with pytest.raises(BadSettings, match=r"ca\.pem"):
        identity.load(folder)
    (folder / "device.json").write_text("{")
    with pytest.raises(BadSettings, match="enrol again"):
        identity.load(folder)
    (folder / "device.json").unlink()
    (folder / "device.json").mkdir()
    with pytest.raises(BadSettings, match="cannot be read"):
        identity.load(folder)
