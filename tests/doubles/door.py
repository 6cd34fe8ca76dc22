"""The server's door for devices without a network: bundles are made and requests answered on a database alone."""

import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet import events
from fleet.authority import Authority
from fleet.bundles import Bundles
from fleet.enrolment import Enrolment
from fleet.joins import Terms
from modules.protocol.enrollment import Broker, EnrollRequest


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def request(key, subject="CN that nobody believes", *, extensions=()):
    """A PEM signing request."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    made = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in extensions:
        made = made.add_extension(extension, critical=True)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class Door:
    """Time stands still at ``now`` until a test moves it."""

    def __init__(self, database, *, approve=False):
        self.database, self.now = database, time.time()
        authority = Authority.create("ca")
        self.bundles = Bundles(authority, fleet="https://x", broker=Broker(host="b", port=1), approve=approve)
        self.enrolment = Enrolment(authority, certificate_life_s=86400, pending_life_s=3600)

    def bundle(self, life_s=60, **terms):
        """A token of a new bundle."""
        with self.database.write() as connection:
            return self.bundles.join(connection, self.now, Terms(life_s=life_s, **terms), root=b"root").token

    def ask(self, key, token, name=None, *, csr=None, address="192.0.2.1"):
        """What the server answers, in a transaction of its own."""
        return self.asked(key, token, name, csr=csr, address=address).answer

    def asked(self, key, token, name=None, *, csr=None, address="192.0.2.1"):
        """The same, with what follows from it."""
        asked = EnrollRequest(token=token, csr=csr or request(key), name=name)
        with self.database.write() as connection:
            return self.enrolment.enrol(connection, self.now, asked, address=address)

    def approve(self, name, mark, by="token 1 (admin)"):
        with self.database.write() as connection:
            return self.enrolment.approve(connection, self.now, name, mark, by=by)

    def events(self):
        with self.database.read() as connection:
            return events.newest(connection)
