"""Hosts in ``hosts/`` are files as the kernel and the vendor's tools write them: ``container-amd64`` was recorded, the
others were written after their documented forms."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hardware
from hardware.probe import examine, probe
from hardware.system import System
from modules.needs import Accelerator
from tests.parts.pace import stretched

HOSTS = Path(__file__).parent / "hosts"
EVERY = sorted(path.name for path in HOSTS.iterdir())


class Recorded(System):
    """A machine of which only files are left; what a command printed is in ``commands/<its name>``."""

    def __init__(self, name: str) -> None:
        super().__init__(HOSTS / name)

    def run(self, command):
        return self.read(f"commands/{command[0]}")

    def machine(self):
        return self.read("machine")

    def disk_free(self, folder):
        return 7 << 30


def facts_of(name: str):
    return probe(Path("/var/lib/edgefleet"), Recorded(name))


def test_container():
    """In a container its own limits count, not what the machine below has."""
    facts = facts_of("container-amd64")

    assert facts.platform == "linux/amd64"
    assert facts.cpu_model == "AMD EPYC"
    assert facts.cores == min(1.5, len(os.sched_getaffinity(0)))
    assert facts.memory_mb == 512
    assert facts.disk_free_mb == 7 << 10
    assert facts.accelerators == ()


def test_board():
    """An Arm board is named by its board, as its processor has no name, and has the memory that the kernel sees."""
    facts = facts_of("raspberry-pi-4")

    assert (facts.platform, facts.cpu_model) == ("linux/arm64", "Raspberry Pi 4 Model B Rev 1.4")
    assert facts.memory_mb == 3885396 // 1024


def test_nvidia():
    """Each NVIDIA GPU with a device node is an accelerator with its name, memory, driver and own nodes."""
    nodes = ("/dev/nvidiactl", "/dev/nvidia-uvm")

    assert facts_of("nvidia-two-gpus").accelerators == tuple(
        Accelerator(
            kind="nvidia",
            name=name,
            providers=("TensorrtExecutionProvider", "CUDAExecutionProvider"),
            devices=(f"/dev/nvidia{number}", *nodes),
            memory_mb=memory,
            driver="550.54.15",
        )
        for number, (name, memory) in enumerate([("NVIDIA A2", 15356), ("NVIDIA L4", 23034)])
    )


def test_nvidia_without_nodes():
    """A driver without device nodes is no accelerator, and the reason says what is missing."""
    found = examine(Path("/"), Recorded("nvidia-driver-without-nodes"))

    assert found.facts.accelerators == ()
    assert (
        "nvidia",
        "NVIDIA driver 560.35.03 is loaded, and there is no /dev/nvidia0 (run nvidia-modprobe)",
    ) in found.notes


def test_nvidia_without_its_tool(monkeypatch):
    """Without nvidia-smi a GPU still counts; its memory is unknown, and the reason says so."""
    monkeypatch.setattr(Recorded, "run", lambda *_: "")

    found = examine(Path("/"), Recorded("nvidia-two-gpus"))

    assert [(one.name, one.memory_mb) for one in found.facts.accelerators] == [("NVIDIA A2", 0), ("NVIDIA L4", 0)]
    assert any("memory is unknown" in note for _, note in found.notes)


def test_bare_host():
    """A host that tells nothing has a platform, a core and no memory, rather than no facts."""
    facts = facts_of("bare")

    assert (facts.platform, facts.cpu_model, facts.memory_mb) == ("linux/mips64", "", 0)
    assert facts.cores > 0


@pytest.mark.parametrize("name", EVERY)
def test_every_fact_has_a_reason(name):
    """On every host each probe says why it found what it found."""
    notes = examine(Path("/"), Recorded(name)).notes

    assert {probe for probe, _ in notes} == {"cpu", "nvidia", "disk"}
    assert not any("failed" in note for _, note in notes)


def test_failing_probe(monkeypatch):
    """A probe that fails is a reason in the report, and hides nothing of the others."""

    class Broken:
        __name__ = "hardware.probes.broken"

        @staticmethod
        def probe(_system):
            raise ValueError("surprise")

    monkeypatch.setattr("hardware.probe.PROBES", (Broken(), *hardware.PROBES))

    found = examine(Path("/"), Recorded("raspberry-pi-4"))

    assert ("broken", "failed: ValueError: surprise") in found.notes
    assert found.facts.platform == "linux/arm64"


def test_unreadable_disk(monkeypatch):
    """Where free disk cannot be asked for, there is none to count on."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Recorded, "disk_free", refuse)

    assert facts_of("bare").disk_free_mb == 0


class TestSystem:
    def test_missing_is_empty(self, tmp_path):
        """What is not there reads as empty: file, folder and program."""
        system = System(tmp_path)

        assert (system.read("/no"), system.list("/no"), system.run(["no-such-program-at-all"])) == ("", (), "")

    def test_run(self):
        """A program's output is given if it succeeds, and nothing if it fails."""
        system = System()

        assert system.run(["echo", "one"]) == "one"
        assert system.run(["false"]) == ""

    def test_disk_of_a_folder_to_be(self, tmp_path):
        """Free disk can be asked of a folder that does not exist yet."""
        system = System()

        assert system.disk_free(tmp_path / "a/b/c") == pytest.approx(system.disk_free(tmp_path), abs=1 << 28)

    def test_read_is_bounded(self, tmp_path):
        """A file without end is read up to a bound."""
        assert len(System().read("/dev/zero")) == 0
        (tmp_path / "long").write_text("x" * (2 << 20))
        assert len(System(tmp_path).read("/long")) == 1 << 20


def test_command_line(tmp_path):
    """``python -m hardware`` shows this machine and why, for people and as JSON."""
    command = [sys.executable, "-m", "hardware", "--folder", str(tmp_path)]
    root = Path(hardware.__file__).parents[1]

    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=stretched(60), cwd=root).stdout
    document = json.loads(
        subprocess.run([*command, "--json"], check=True, capture_output=True, timeout=stretched(60), cwd=root).stdout
    )

    assert "platform      linux/" in text
    assert "because the kernel says" in text
    assert document["facts"]["memory_mb"] > 0
