"""A device as an attack must leave it: the same module answers, the server is told so, and its disk is as it was."""

import hashlib
import stat
from pathlib import Path
from typing import Any

from tests.parts.on_device import OnDevice
from tests.parts.programs import until
from tests.parts.system import System
from tests.parts.traffic import Question

MODULE = "x-edgefleet-module"
# What is open on a disk: plain files and folders, none of which lends its owner's rights.
_OPEN = ("waiting", "sent", "running")
_LENT = stat.S_ISUID | stat.S_ISGID


class Standing:
    """One enrolled device with a committed module, and what an attack may not change of it."""

    def __init__(self, system: System, device: OnDevice, slot: str, ref: str, question: Question) -> None:
        self.system, self.device, self.slot, self.ref, self.question = system, device, slot, ref, question
        self.outside = system.folder / f"beside-{device.name}"
        self.outside.mkdir()
        (self.outside / "mine").write_text("nobody's business")
        self.mark()

    @property
    def name(self) -> str:
        return self.device.name

    def mark(self) -> None:
        """What is there now must be there after the attack."""
        self._kept = contents(self.device.state / "identity") | self._module()
        self._instance = self._placed()
        self._beside = contents(self.outside)

    def holds(self, *, restarted: bool = False) -> None:
        """Assert all of it. ``restarted`` says that the attack may cost the module's process, not the module."""
        self.answers()
        device = self.system.api(f"devices/{self.name}")
        assert device["online"], device
        told = self.told(self.slot)
        assert (told["phase"], told["module"], told["serving"]["module"]) == ("committed", self.ref, self.ref), told
        assert contents(self.device.state / "identity") | self._module() == self._kept
        assert contents(self.outside) == self._beside
        assert restarted or self._placed() == self._instance
        assert strange(self.device.state) == []
        assert self.device.agent.runs
        assert self.device.gateway.runs
        for program in (self.device.agent, self.device.gateway):
            assert "Traceback" not in program.said(), program.said()

    def answers(self) -> None:
        """The right answer, of the right module, at the gateway."""
        got = self.device.score(self.slot, self.question.body)
        assert (got.status, got.headers[MODULE]) == (200, self.ref), got
        assert self.question.wrong(got.body) == ""

    def commanded(self, name: str, *, within_s: float = 30.0) -> str:
        """Give a command, and wait for its end; how it ended."""
        with self.system.server.client() as http:
            response = http.post("/api/v1/commands", json={"name": name, "device": self.name})
            assert response.is_success, response.text
            given = response.json()
        (one,) = given["commands"]
        ended: str = until(
            lambda: (state := self.system.api(f"commands/{one['id']}")["state"]) not in _OPEN and state,
            f"{name} ends",
            within_s=within_s,
            said=self.device.said,
        )
        return ended

    def told(self, slot: str) -> Any:
        """What the server was told of a slot last; None where that is nothing."""
        return next((one for one in self.system.report(self.name).get("slots", ()) if one["slot"] == slot), None)

    def events(self) -> list[dict[str, Any]]:
        """What the server has noted of this device, newest first."""
        return [one for one in self.system.api("events") if one["device"] == self.name]

    def refusals(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.system.report(self.name).get("refusals", [])
        return found

    def _placed(self) -> str:
        row = self.device.slot(self.slot)
        assert row is not None
        assert row.current is not None
        return row.current.instance

    def _module(self) -> dict[str, str]:
        row = self.device.slot(self.slot)
        assert row is not None
        assert row.current is not None
        name = row.current.wanted.digest.removeprefix("sha256:")
        return contents(self.device.state / "modules" / name)


def contents(folder: Path) -> dict[str, str]:
    """Every entry below a folder by its path: its mode, and the hash of its bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        data = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""
        found[str(path.relative_to(folder.parent))] = f"{stat.filemode(mode)} {data}"
    return found


def strange(folder: Path) -> list[str]:
    """What lies below a folder and is neither a plain file nor a folder, or lends rights."""
    found = []
    for path in folder.rglob("*"):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # a draft that the agent has just put in its place
            continue
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or (stat.S_ISREG(mode) and mode & _LENT):
            found.append(str(path))
    return found
