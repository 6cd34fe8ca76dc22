"""An OpenID Connect provider on loopback: real HTTP and real JWTs, one person who is always logged in."""

import base64
import hashlib
import json
import secrets
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT, SECRET = "edgefleet", "the client's secret"


class IdentityProvider:
    """``claims`` are what it says of the person; ``forge`` makes the ID token, where a test wants another one."""

    def __init__(self, clock):
        self.clock = clock
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.claims = {"sub": "4711", "email": "Vera@example.org", "groups": ["berlin-operators"]}
        self.forge = self.honest
        self.codes = {}
        self.asked = []
        self.issuer = ""

    def said(self, nonce, /, **others):
        now = int(self.clock())
        return {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce} | self.claims | others

    def honest(self, nonce):
        return jwt.encode({"alg": "RS256", "kid": "one"}, self.said(nonce), self.key)

    def get(self, path, query):
        if path == "/.well-known/openid-configuration":
            places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
            return 200, {"issuer": self.issuer} | {name: f"{self.issuer}/{place}" for name, place in places.items()}
        if path == "/keys":
            return 200, KeySet([self.key]).as_dict(private=False)
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        return 302, f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form):
        """As RFC 6749 and RFC 7636 say: a code once, for its client, address and verifier."""
        asked = self.codes.pop(form.get("code"), None)
        if asked is None or form.get("client_secret") != SECRET or form["client_id"] != CLIENT:
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (asked["redirect_uri"], asked["code_challenge"]) != (form["redirect_uri"], challenge):
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": self.forge(asked["nonce"])}


@contextmanager
def identity_provider(clock):
    """Runs for as long as the block."""
    provider = IdentityProvider(clock)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            provider.asked.append(parts.path)
            self.answer(*provider.get(parts.path, {key: one[0] for key, one in parse_qs(parts.query).items()}))

        def do_POST(self):
            provider.asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.answer(*provider.token({key: one[0] for key, one in parse_qs(body).items()}))

        def answer(self, status, said):
            self.send_response(status)
            if status == 302:
                self.send_header("Location", said)
            data = b"" if status == 302 else json.dumps(said).encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, name="identity provider")
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
