"""A real image registry (Debian's docker-registry) on loopback with TLS, and a token service that it believes."""

import base64
import http.client
import http.server
import json
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwt
from joserfc.jwk import ECKey

from fleet.authority import Authority
from tests.parts.mosquitto import HOST, free_port
from tests.parts.presence import program
from tests.parts.programs import Program

USER, PASSWORD = "robot", "pass-phrase-7"
_HASHED = "$2b$04$mCWTgo3p9WZRWHjFjHQB.enUiF5/yVVlk9iv.xMs0wV2ix.g38Szy"
_SERVICE = "the-registry"


class Running(NamedTuple):
    """``address`` is HOST:PORT, ``ca`` the PEM of its authority, ``folder`` where it keeps what it has."""

    address: str
    ca: str
    folder: Path
    program: Program


@contextmanager
def docker_registry(folder: Path, *, token_realm: str = "", authority: Authority | None = None) -> Iterator[Running]:
    """Lets in the user by password, or whoever has a token of the service at ``token_realm``."""
    folder.mkdir()
    authority = authority or Authority.create("registry")
    pem, port = folder / "server.pem", free_port()
    authority.server([HOST]).write(pem)
    authority.write(folder / "ca.pem")
    (folder / "users").write_text(f"{USER}:{_HASHED}\n")
    auth: dict[str, object] = {"htpasswd": {"realm": "tests", "path": str(folder / "users")}}
    if token_realm:
        given = {"realm": token_realm, "service": _SERVICE, "issuer": "tests"}
        auth = {"token": given | {"rootcertbundle": str(folder / "ca.pem")}}
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "store")}},
        "http": {"addr": f"{HOST}:{port}", "tls": {"certificate": str(pem), "key": str(pem.with_suffix(".key"))}},
        "auth": auth,
    }
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(settings))
    executable = program("docker-registry")
    assert executable is not None
    one = Program("docker-registry", [executable, "serve", folder / "config.yml"], folder / "log.txt")
    context = ssl.create_default_context(cadata=authority.pem)
    one.start(lambda: _answers(port, context))
    try:
        yield Running(f"{HOST}:{port}", authority.pem, folder, one)
    finally:
        one.stop()


def _answers(port: int, context: ssl.SSLContext) -> bool:
    connection = http.client.HTTPSConnection(HOST, port, timeout=5, context=context)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == http.client.UNAUTHORIZED
    except OSError:
        return False
    finally:
        connection.close()


class Asked(NamedTuple):
    """What a token service was asked for."""

    scope: str
    authorization: str


@contextmanager
def token_service(authority: Authority) -> Iterator[tuple[str, list[Asked]]]:
    """Its address, and what it was asked for. Who brings the right password gets a token for whatever is asked."""
    asked: list[Asked] = []
    granted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    issued = authority.server(["issuer"])
    der = x509.load_pem_x509_certificate(issued.certificate).public_bytes(Encoding.DER)
    key, chain = ECKey.import_key(issued.key), [base64.b64encode(der).decode()]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            scope = query["scope"][0]
            asked.append(Asked(scope, self.headers.get("Authorization", "")))
            if asked[-1].authorization != granted:
                self.says(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]})
                return
            kind, name, actions = scope.split(":")
            now = int(time.time())
            access = [{"type": kind, "name": name, "actions": actions.split(",")}]
            times = {"iat": now, "nbf": now - 5, "exp": now + 60}
            claims = {
                "iss": "tests",
                "sub": USER,
                "aud": query["service"][0],
                "jti": uuid.uuid4().hex,
                "access": access,
            }
            self.says(200, {"token": jwt.encode({"alg": "ES256", "x5c": chain}, claims | times, key)})

        def says(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/token", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
