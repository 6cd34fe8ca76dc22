"""Row 22: an older TLS, another authority, another host, old dates, in the place of the broker and of the server.

There is no mode for a clock that is not set: dates are always looked at, and such a device connects once its clock is
right. So nothing but dates can be skipped, because nothing is.
"""

import json
import ssl
import time
import warnings

import pytest
from cryptography.hazmat.primitives import serialization

from fleet.authority import Authority, Issued
from fleet.folder import Folder
from tests.attacks.doors.aged import pair
from tests.attacks.doors.impostor import Impostor
from tests.parts.certificates import self_signed
from tests.parts.programs import CommandFailed, run

DAY_S = 86_400.0
HOST = "127.0.0.1"


def another_authority(_system, folder):
    """Of the right host's name, and of an authority of the attacker's."""
    return _issued(folder, Authority.create("fleet"))


def another_host(system, folder):
    """Of the fleet's own authority, for another host: a stolen certificate of another server."""
    return _written(folder, Authority.load(system.data.ca).server(["elsewhere.example"]))


def old_dates(system, folder):
    """The right host's, of the fleet's own authority, ended long ago."""
    return _issued(folder, Authority.load(system.data.ca, lambda: time.time() - 4000 * DAY_S))


def of_a_device(system, folder):
    """The fleet's own authority gives every device a certificate; it is no server's."""
    made = folder / "device.pem"
    made.write_bytes(pair(Authority.load(system.data.ca), "dev-honest"))
    return _context(made)


def signed_by_itself(_system, folder):
    """By nobody else."""
    made, key = folder / "self.pem", folder / "self.key"
    self_signed(made, key, "localhost")
    made.write_bytes(made.read_bytes() + key.read_bytes())
    return _context(made)


def older_tls(system, folder):
    """All is right but the version."""
    context = _issued(folder, Authority.load(system.data.ca))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def right(system, folder):
    """What a client does say something to."""
    return _issued(folder, Authority.load(system.data.ca))


def _issued(folder, authority):
    return _written(folder, authority.server([HOST, "localhost"]))


def _written(folder, issued: Issued):
    path = folder / "impostor.pem"
    issued.write(path)
    path.write_bytes(path.read_bytes() + Folder.key(path).read_bytes())
    return _context(path)


def _context(pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


IMPOSTORS = [
    another_authority, of_a_device,
    *(pytest.param(one, marks=pytest.mark.long) for one in (another_host, old_dates, signed_by_itself, older_tls)),
]  # fmt: skip
NAMED = {"ids": lambda one: one.__name__}


@pytest.mark.parametrize("make", IMPOSTORS, **NAMED)
def test_row_22_a_broker_that_is_not_the_fleets_hears_nothing(system, edge, tmp_path, make):
    """The agent ends the handshake: no packet, no name, no certificate reaches it. The module answers, the identity is
    as it was, and the agent is back as soon as the right broker is."""
    identity = edge.device.state / "identity" / "device.json"
    whole = identity.read_bytes()
    with Impostor(make(system, tmp_path)) as impostor:
        document = json.loads(whole)
        document["broker"]["port"] = impostor.port
        edge.device.agent.stop()
        identity.write_text(json.dumps(document))
        edge.device.agent.start(ready=lambda: impostor.tried > 0)
        try:
            edge.answers()
            edge.device.until(lambda: "broker lost" in edge.device.agent.said(), "it refuses", within_s=10)
        finally:
            edge.device.agent.stop()
            identity.write_bytes(whole)
            edge.device.agent.start()
        assert impostor.heard == b""
    edge.device.until(lambda: system.api(f"devices/{edge.name}")["online"], "it is back")
    edge.holds()


@pytest.mark.parametrize("make", [*IMPOSTORS, right], **NAMED)
def test_row_22_a_server_that_is_not_the_fleets_gets_no_token(system, edge, tmp_path, make):
    """Joining: the token that would make somebody a device is said to the fleet's own server alone, and nothing that
    counts as an identity is written. The last case shows that a server which is the fleet's does hear it."""
    system.cli("devices", "join", "--out", tmp_path / "join.json")
    bundle = json.loads((tmp_path / "join.json").read_text())
    token = bundle["token"].encode()
    with Impostor(make(system, tmp_path)) as impostor:
        bundle["fleet"] = f"https://{HOST}:{impostor.port}"
        (tmp_path / "join.json").write_text(json.dumps(bundle))
        state = tmp_path / "state"
        with pytest.raises(CommandFailed) as failed:
            run(
                *("agent", "enroll", tmp_path / "join.json", "--name", "dev-lured"),
                environment={"EDGEFLEET_AGENT_STATE": str(state)},
            )
    assert (token in impostor.heard) is (make is right)
    assert make is right or impostor.heard == b""
    assert "cannot be reached" in failed.value.err
    # The key that it made for itself is all there is: with another bundle it is used, or made anew.
    assert [path.name for path in (state / "identity").iterdir()] == ["key.pem"]
    serialization.load_pem_private_key((state / "identity" / "key.pem").read_bytes(), None)
    assert "dev-lured" not in {one["id"] for one in system.api("devices")}
    edge.holds()
