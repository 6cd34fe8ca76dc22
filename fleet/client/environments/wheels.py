"""A set of wheels for one image: resolved on this machine for the image's Python, and locked by digest from then on."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from packaging.utils import canonicalize_name, parse_wheel_filename

from fleet.client.environments.requirements import Requirements
from fleet.client.images.base_image import Progress
from fleet.client.images.pip import Inside, PipFailed, pip
from modules.errors import Invalid, NeedsOperator

LOCK: Final = "lock.txt"
_NOT_FOUND: Final = re.compile(r"No matching distribution found for ([^\s;(]+(?:\s*[<>=!~][^\s;(]*)?)")
_VERSIONS: Final = re.compile(r"\(from versions: ([^)]*)\)")
_CONFLICT: Final = re.compile(r"ResolutionImpossible|conflicting dependencies")
_BY_SOURCE: Final = 12
_SHOWN: Final = 1200
# Nothing that must be compiled is kept, so nothing is compiled.
_NO_COMPILER: Final = {"CC": "false", "CXX": "false", "FC": "false"}
_SAYS_WHY: Final = re.compile(r"error|exception", re.IGNORECASE)
_SAYS_NOTHING: Final = re.compile(
    r"subprocess-exited|subprocess to|failed to build|failed building|failed-wheel|encountered error|this error",
    re.IGNORECASE,
)


class Wheel(msgspec.Struct, frozen=True, kw_only=True):
    """One wheel; ``sha256`` in hex digits."""

    name: str
    version: str
    file: Path
    sha256: str

    @property
    def line(self) -> str:
        """As pip's lock has it."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


class WheelSet(msgspec.Struct, frozen=True):
    """All wheels of an environment, by name."""

    wheels: tuple[Wheel, ...]

    @property
    def lock(self) -> str:
        """A requirements file that pip checks by digest; the same wheels give the same text."""
        return "".join(f"{wheel.line}\n" for wheel in self.wheels)

    def beside(self, pins: Sequence[str]) -> "WheelSet":
        """Those that are not among ``pins`` (``name==version``) already."""
        held = {pin.split(";")[0].strip() for pin in pins}
        return WheelSet(tuple(one for one in self.wheels if f"{one.name}=={one.version}" not in held))


def locked(
    requirements: Requirements, inside: Inside, pins: Sequence[str], store: Path, progress: Progress
) -> WheelSet:
    """The wheels in ``store`` that were locked for the same requirements before, else a fresh set, which stays there.

    Versions in ``pins`` are preferred, since the image holds them already; where they fight with the requirements, the
    requirements win.

    Raises:
        Invalid: a wheel in the store was changed.
        NeedsOperator: a package cannot be had, is a source that must be compiled, or fights with another.
    """
    folder = store / _key(requirements, inside, pins)
    if (folder / LOCK).is_file():
        return _read(folder)
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store, prefix="fetching-") as scratch:
        fresh = Path(scratch, "set")
        fresh.mkdir()
        progress(f"fetching wheels for {inside}")
        try:
            _fetch(requirements, inside, pins, fresh, progress)
        except _Conflict as conflict:
            if not pins:
                raise conflict.error from None
            progress("other versions are wanted than the scoring server has: they will stand beside them")
            shutil.rmtree(fresh)
            fresh.mkdir()
            try:
                _fetch(requirements, inside, (), fresh, progress)
            except _Conflict as again:
                raise again.error from None
        (fresh / LOCK).write_text(_measure(fresh).lock)
        # Another command may have fetched the same meanwhile, and build with it.
        if not (folder / LOCK).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
    return _read(folder)


def forget(requirements: Requirements, inside: Inside, pins: Sequence[str], store: Path) -> None:
    """Have the next :func:`locked` ask for today's versions."""
    shutil.rmtree(store / _key(requirements, inside, pins), ignore_errors=True)


def _key(requirements: Requirements, inside: Inside, pins: Sequence[str]) -> str:
    parts = (*sorted(requirements.packages), "", *requirements.options, "", *sorted(pins), str(inside))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class _Conflict(Exception):
    """The resolver found no set of versions; ``error`` is what to tell the user if nothing else helps."""

    def __init__(self, error: NeedsOperator) -> None:
        super().__init__(str(error))
        self.error = error


def _fetch(requirements: Requirements, inside: Inside, pins: Sequence[str], folder: Path, progress: Progress) -> None:
    """Fill the folder; what has no wheel is built from its source here, if that gives one for every machine."""
    asked, constraints, built = folder / "asked.txt", folder / "pins.txt", folder / "built"
    built.mkdir()
    asked.write_text("\n".join((*requirements.options, *requirements.packages)) + "\n")
    constraints.write_text("\n".join(pins))
    arguments = (
        "download", f"--dest={folder}", *inside.pip_options, f"--find-links={built}", f"--constraint={constraints}",
        f"--requirement={asked}",
    )  # fmt: skip
    tried: set[str] = set()
    while requirements.packages:
        try:
            pip(*arguments)
            break
        except PipFailed as error:
            missing, there = _missing(error, tried)
        progress(f"no wheel of {missing} fits: building one from its source")
        tried.add(missing)
        _build(missing, there, inside, built)
    for leftover in (asked, constraints):
        leftover.unlink()
    shutil.rmtree(built)


def _missing(error: PipFailed, tried: set[str]) -> tuple[str, str]:
    """The requirement for which pip found no wheel, and a half-sentence with the versions that have one."""
    if _CONFLICT.search(error.said):
        raise _Conflict(
            NeedsOperator(
                f"these packages do not go together: {_explained(error.said)}",
                element="environment",
                remedy="loosen or drop a version",
            )
        ) from error
    found = _NOT_FOUND.findall(error.said)
    if not found or found[-1] in tried or len(tried) >= _BY_SOURCE:
        raise error
    offered = _VERSIONS.findall(error.said)
    versions = offered[-1].split(", ") if offered and offered[-1] != "none" else []
    return found[-1].strip(), f"; there are wheels from {versions[0]} to {versions[-1]}" if versions else ""


def _build(requirement: str, there: str, inside: Inside, built: Path) -> None:
    """One wheel from source, which must be fit for every machine: nothing is compiled for another one here."""
    name = re.split(r"[<>=!~\[\s]", requirement)[0]
    with tempfile.TemporaryDirectory(prefix="edgefleet-source-") as scratch:
        options = ("--no-deps", f"--no-binary={name}", f"--wheel-dir={scratch}")
        try:
            pip("wheel", *options, requirement, environment=_NO_COMPILER)
        except PipFailed as error:
            if _NOT_FOUND.search(error.said):
                raise NeedsOperator(
                    f"there is no such package, or no such version, for {inside}{there}",
                    element=requirement,
                    remedy=f"correct the name or the version of {name}, or check pip's configuration (pip config list)",
                ) from error
            raise NeedsOperator(
                f"it has no wheel for {inside}, and its source cannot be made one{there} ({_reason(error.said)})",
                element=requirement,
                remedy=f"choose a version of {name} that has a wheel, build one for that machine and name its file, or "
                "use an image that has the package: --base-image",
            ) from error
        (wheel,) = Path(scratch).glob("*.whl")
        if not wheel.name.endswith("-none-any.whl"):
            raise NeedsOperator(
                f"it has no wheel for {inside}, and its source has parts that must be compiled{there}",
                element=requirement,
                remedy=f"choose a version of {name} that has a wheel, build one for that machine and name its file, or "
                "use an image that has the package: --base-image",
            )
        shutil.move(wheel, built / wheel.name)


def _reason(said: str) -> str:
    """The line of a build's output that says why it failed."""
    lines = [line.strip() for line in said.splitlines()]
    telling = [line for line in lines if _SAYS_WHY.search(line) and not _SAYS_NOTHING.search(line)]
    return (telling or lines)[-1][:_SHOWN]


def _explained(said: str) -> str:
    """The part of pip's words that is about packages."""
    begin = said.find("The conflict is caused by")
    lines = said[begin:].split("To fix this", maxsplit=1)[0] if begin >= 0 else said
    return " ".join(lines.split())[-_SHOWN:]


def _measure(folder: Path) -> WheelSet:
    """What pip left in a folder."""
    wheels = []
    for file in sorted(folder.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(file.name)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        wheels.append(Wheel(name=canonicalize_name(name), version=str(version), file=file, sha256=digest))
    return WheelSet(tuple(sorted(wheels, key=lambda one: one.name)))


def _read(folder: Path) -> WheelSet:
    """A set that was locked before, which must still be the same."""
    lock = (folder / LOCK).read_text()
    found = _measure(folder)
    if found.lock != lock:
        raise Invalid(
            "the wheels are not those that were locked",
            element=str(folder),
            remedy="remove that folder, or say --upgrade",
        )
    return found
