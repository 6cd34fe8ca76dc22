"""The demo's broker: mosquitto with mutual TLS and access rules where it is installed, else one from PyPI."""

import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from deploy.demo.programs import HOST, Failed, Programs, free_port, listens, python, run

ROOT: Final = Path(__file__).parents[2]
_LOCK: Final = ROOT / "deploy/locks/demo.txt"


class Broker(NamedTuple):
    """A broker that runs: where devices and the server reach it, and what the operator should know of it."""

    name: str
    device_port: int
    service_port: int
    note: str


def start(programs: Programs, folder: Path, data: Path, *, choice: str) -> Broker:
    """Start a broker for the fleet whose data folder is ``data``; ``choice`` is ``auto``, ``mosquitto`` or ``amqtt``.

    Raises:
        Failed: mosquitto was asked for and is not installed, or the broker did not start.
    """
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    mosquitto = shutil.which("mosquitto", path=path)
    if mosquitto and choice != "amqtt":
        return _mosquitto(programs, folder, data, mosquitto)
    if choice == "mosquitto" or (choice == "auto" and os.environ.get("EDGEFLEET_REQUIRE") == "all"):
        raise Failed("mosquitto is not installed, and no other broker is allowed")
    note = "it encrypts, but lets anybody in, so it is for loopback only"
    return _amqtt(programs, folder, data, note if mosquitto else f"mosquitto is not installed; {note}")


def _mosquitto(programs: Programs, folder: Path, data: Path, executable: str) -> Broker:
    device_port, service_port = free_port(), free_port()
    ports = ("--broker-port", str(device_port), "--broker-service-port", str(service_port))
    run(python("-m", "fleet", "broker-config", str(folder), "--data", str(data), "--listen", HOST, *ports))
    programs.start(
        "mosquitto",
        [executable, "-c", str(folder / "mosquitto.conf")],
        ready=lambda: listens(device_port) and listens(service_port),
    )
    return Broker("mosquitto", device_port, service_port, "mutual TLS, each device confined to its own topics")


def _amqtt(programs: Programs, folder: Path, data: Path, note: str) -> Broker:
    """A broker from PyPI, in an environment of its own."""
    environment = folder / "venv"
    run(python("-m", "venv", str(environment)))
    run([str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(_LOCK)])
    port = free_port()
    # It asks for certificates, and refuses those whose CA it does not know, though it lets in who has none.
    authorities = folder / "authorities.pem"
    authorities.write_text((data / "ca.pem").read_text() + (data / "service-ca.pem").read_text())
    configuration = folder / "amqtt.yaml"
    configuration.write_text(
        "listeners:\n"
        "  default:\n"
        f"    type: tcp\n    bind: {HOST}:{port}\n    ssl: true\n"
        f"    certfile: {data}/broker.pem\n    keyfile: {data}/broker.key\n    cafile: {authorities}\n"
        "plugins:\n"
        "  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
    )
    program = str(environment / "bin/amqtt")
    programs.start("amqtt", [program, "-c", str(configuration)], ready=lambda: listens(port))
    return Broker("amqtt", port, port, note)
