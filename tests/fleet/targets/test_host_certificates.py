"""Certificates of endpoints that devices ask: made for the host's name, renewed in time, and asked for by the pass."""

import msgspec
from cryptography import x509

from fleet.authority import SERVER_LIFE, Authority
from fleet.folder import Folder
from fleet.targets import door, secrets
from fleet.targets.endpoints import Endpoints
from fleet.targets.host_certificates import HostCertificates
from modules.protocol.endpoint import CERTIFICATE, KEYS
from tests.fleet.targets.test_endpoints import create

NOW = 1_900_000_000.0


def names(pem):
    found = x509.load_pem_x509_certificate(pem.encode()).extensions
    return {str(one.value) for one in found.get_extension_for_class(x509.SubjectAlternativeName).value}


def test_a_certificate_is_for_the_host_and_is_renewed_in_time():
    """For another name, and at two thirds of its life, there is another one, for the same key; else it stays."""
    authority = Authority.create("fleet", lambda: NOW)
    issuer = HostCertificates(authority)
    first = issuer.renewed(secrets.made(), "lab.example", NOW)
    assert names(first.issued) == {"lab.example"}
    assert issuer.renewed(first, "lab.example", NOW) is None
    assert issuer.renewed(first, "lab.example", NOW + 0.6 * SERVER_LIFE.total_seconds()) is None

    for host, later in (("10.0.0.7", 0.0), ("lab.example", 0.7 * SERVER_LIFE.total_seconds())):
        renewed = issuer.renewed(first, host, NOW + later)
        assert (renewed.issued != first.issued, renewed.issued_key) == (True, first.issued_key)
        assert names(renewed.issued) == {host}


def test_another_authoritys_certificate_is_not_kept():
    """A fleet whose authority has changed names its endpoints anew."""
    old = HostCertificates(Authority.create("old", lambda: NOW)).renewed(secrets.made(), "lab", NOW)
    assert HostCertificates(Authority.create("new", lambda: NOW)).renewed(old, "lab", NOW) is not None


async def test_an_endpoint_for_devices_has_a_certificate_and_knows_whom_to_let_in(cloud):
    """Its door gets the fleet's authority and the revoked; without devices it has neither, and speaks plain HTTP."""
    await create(cloud, settings={"devices": True, "host_name": "lab.example"})
    await create(cloud, name="plain")
    folder = Folder(cloud.folder.root)
    authority = Authority.load(folder.ca)
    wished = Endpoints(cloud.fleet.registry, secrets.Sealer(folder), HostCertificates(authority))
    with cloud.database.write() as connection:
        row = wished.certify(connection, cloud.now, wished.row(connection, "digits"))
        assert wished.certify(connection, cloud.now, row).secrets == row.secrets
        plain = wished.certify(connection, cloud.now, wished.row(connection, "plain"))
    files = door.access(wished.wanted(row, ["ab12"], ["dev-a"]))
    assert names(files[CERTIFICATE].decode()) == {"lab.example"}
    assert msgspec.json.decode(files[KEYS])["devices"] == {
        "ca": authority.pem,
        "revoked": ["ab12"],
        "only": ["dev-a"],
    }
    assert CERTIFICATE not in door.access(wished.wanted(plain))
    assert b"devices" not in door.access(wished.wanted(plain))[KEYS]
