"""What the idle agent may have in memory."""

import subprocess
import sys

import pytest

from tests.house.installed import imported_with_only
from tests.house.test_extras import existing

HEAVY = {
    "aiohttp",
    "alembic",
    "argparse",
    "docker",
    "fastapi",
    "httpx",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "pydantic",
    "requests",
    "rich",
    "sqlalchemy",
    "sqlite_utils",
    "statistics",
    "starlette",
    "typer",
    "urllib3",
    "uvicorn",
}
# The parts of commands that run once: loaded when they are called; what measures: loaded when an order asks for it; the
# lane for large blobs, when one is wanted; what renews the certificate, when that is due; telemetry, unless the
# settings turn it off; an engine that few settings ask for; what measures and writes images, when an engine is to be
# given one; and commands, when one comes.
ONCE = {
    "agent.command_line",
    "agent.commands",
    "agent.doctor",
    "agent.engines.process",
    "agent.enroll",
    "agent.halt",
    "agent.https_lane",
    "agent.measure",
    "agent.measurer",
    "agent.next_pair",
    "agent.renewal",
    "agent.side_load",
    "agent.status",
    "agent.telemetry.duty",
    "cryptography.x509",
    "modules.protocol.commands",
    "modules.image_import",
    "modules.unpacked",
    "tarfile",
}
# As ``agent.running`` begins, with whatever else is installed here.
RUNS = "from agent.left_out import leave_out; leave_out(); import sys, agent.wiring; "


@pytest.mark.parametrize("entry", ["agent.__main__", "agent.wiring", "agent.loop"])
def test_agent_loads_nothing_heavy(entry):
    """The agent idles in tens of MB: no web framework, validator, array library or engine SDK is loaded."""
    loaded = {name.partition(".")[0] for name in imported_with_only("agent", *existing([entry]))}

    assert loaded & HEAVY == set()


def test_agent_loads_nothing_of_the_server():
    """The agent has neither the server's nor the scoring server's code in memory."""
    loaded = imported_with_only("agent", *existing(["agent.__main__", "agent.wiring"]))

    assert [name for name in loaded if name == "fleet" or name.startswith(("fleet.", "modules.scoring"))] == []


def test_agent_loads_no_other_commands_part():
    """What only another command of the agent needs is not in its memory while it runs."""
    loaded = imported_with_only("agent", *existing(["agent.__main__", "agent.wiring"]))

    assert ONCE & set(loaded) == set()


def after_wiring(program):
    """What it prints in an interpreter that has loaded what an agent runs with."""
    done = subprocess.run([sys.executable, "-c", RUNS + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_agent_loads_no_signers_but_its_own():
    """Of HSMs, clouds and GnuPG nothing is loaded, though securesystemslib and its libraries for them are here."""
    loaded = after_wiring("print(*sys.modules)").split()

    assert [name for name in loaded if name.startswith(("pkcs11", "asn1crypto", "securesystemslib._gpg"))] == []


def test_a_key_of_a_signer_that_was_left_out_is_none():
    """A device would call gpg for such a key; left out, it cannot be read, and a key of ours can."""
    gpg, ours = ("rsa", "pgp+rsa-pkcsv1.5"), ("ecdsa", "ecdsa-sha2-nistp256")
    said = after_wiring(
        "from securesystemslib.signer import Key\n"
        f"for kind, scheme in {(gpg, ours)}:\n"
        "    try: print(Key.from_dict('k', {'keytype': kind, 'scheme': scheme, 'keyval': {'public': '-'}}).scheme)\n"
        "    except ValueError as error: print(error)"
    )

    assert said.splitlines() == ["a device verifies no keys of this kind", "ecdsa-sha2-nistp256"]


def test_nothing_is_left_out_of_what_is_loaded():
    """A program that has loaded the signers keeps them: an engineer's machine signs with its HSM."""
    program = (
        "import securesystemslib.signer as signers; from agent.left_out import leave_out; leave_out(); "
        "from securesystemslib.signer._hsm_signer import HSMSigner; print(HSMSigner is signers.HSMSigner)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["True"]
