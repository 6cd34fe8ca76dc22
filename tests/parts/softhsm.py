"""A PKCS#11 token of SoftHSM's in a folder of its own, with P-256 keys that never leave it."""

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.parts.pace import stretched

LIBRARIES: Final = (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"))
LABEL: Final = "fleet"
PIN: Final = "4821"
# As a program of its own makes them: a library reads its configuration once for each process.
_MAKE: Final = """
import sys, pkcs11
token = pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2])
curve = {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1")}
with token.open(rw=True, user_pin=sys.argv[3]) as session:
    for number in map(int, sys.argv[4:]):
        session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True).generate_keypair(
            id=pkcs11.util.biginteger(number), label=f"key-{number}", store=True
        )
"""


def library() -> Path | None:
    """SoftHSM's library, where it is installed."""
    return next((path for path in LIBRARIES if path.exists()), None)


def token(folder: Path, python: str, *numbers: int) -> dict[str, str]:
    """Make a token with these keys; the variables with which a program finds it."""
    found = library()
    assert found is not None, "SoftHSM is not installed: mark the test with needs('softhsm')"
    tokens = folder / "tokens"
    tokens.mkdir(parents=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    environment = {"SOFTHSM2_CONF": str(configuration), "PYKCS11LIB": str(found), "EDGEFLEET_PIN": PIN}
    made = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "9173"]
    keys = [python, "-c", "import pkcs11.util.ec\n" + _MAKE, str(found), LABEL, PIN, *map(str, numbers)]
    for command in (made, keys):
        subprocess.run(command, env=os.environ | environment, check=True, timeout=stretched(60), capture_output=True)
    return environment


def uri(number: int) -> str:
    """The signer URI of one of its keys."""
    return f"hsm:{number}?label={LABEL}"
