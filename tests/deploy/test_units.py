"""The systemd units: systemd itself accepts them, and their sandbox stays as tight as it is."""

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.parts.pace import stretched

UNITS = Path(__file__).parents[2] / "deploy" / "agent"
SERVICES = {"edgefleet-agent.service": "edgefleet-agent", "edgefleet-gateway.service": "edgefleet-gateway"}


def read(name):
    """A unit's settings; a repeated one counts as its last."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNITS / name)
    return unit


def analyze(*arguments, folder):
    """Run systemd-analyze on units of ``folder``."""
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=stretched(60),
        env=environment,
    )


@pytest.fixture
def installed(tmp_path):
    """The units as on a device, with programs that exist."""
    for unit in UNITS.glob("edgefleet-*.s*"):
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    return tmp_path


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_units(installed):
    """No unknown setting, no bad value, no unit that contradicts another."""
    units = sorted(installed.iterdir())
    result = analyze("verify", "--man=no", "--recursive-errors=no", *units, folder=installed)

    assert (result.returncode, [line for line in result.stderr.splitlines() if "edgefleet" in line]) == (0, [])


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize(("unit", "exposure"), [("edgefleet-agent.service", 30), ("edgefleet-gateway.service", 20)])
def test_the_sandbox_stays_tight(installed, unit, exposure):
    """systemd's own measure of exposure (0 to 100) stays below what the unit has reached."""
    result = analyze("security", "--offline=true", f"--threshold={exposure}", installed / unit, folder=installed)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("unit", "program"), SERVICES.items())
def test_the_services_run_the_installed_programs(unit, program):
    """Each service runs the program of its name, unprivileged, and says when it is ready."""
    service = read(unit)["Service"]

    assert service["ExecStart"].split()[0] == program
    assert service["Type"] == "notify"
    assert service["User"].startswith("edgefleet")
    assert service["CapabilityBoundingSet"] == ""


def test_the_gateway_does_not_hang_on_the_agent():
    """Nothing that stops the agent stops the gateway, and only the agent owns the runtime directory."""
    gateway, agent = read("edgefleet-gateway.service"), read("edgefleet-agent.service")

    ties = {"PartOf", "BindsTo", "Requires", "Requisite"} & set(gateway["Unit"])
    assert {name: gateway["Unit"][name] for name in ties} == {"Requires": "edgefleet-gateway.socket"}
    assert "RuntimeDirectory" not in gateway["Service"]
    assert agent["Service"]["RuntimeDirectoryPreserve"] == "yes"
    assert "edgefleet/gateway" in agent["Service"]["RuntimeDirectory"].split()


def test_the_address_is_loopback():
    """Out of the box nothing but this device reaches the models, and it is systemd that listens."""
    assert read("edgefleet-gateway.socket")["Socket"]["ListenStream"] == "127.0.0.1:8700"


@pytest.mark.parametrize("file", sorted(path.name for path in UNITS.iterdir() if path.name != "README.md"))
def test_the_readme_names_each_file(file):
    """deploy/agent/README.md says of each file beside it what runs and with which rights."""
    assert f"`{file}`" in (UNITS / "README.md").read_text()
