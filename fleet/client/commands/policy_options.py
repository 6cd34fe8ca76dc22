"""A rollout's policy from the command line: a file, a preset, and options that replace their parts."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
import yaml

from modules.errors import Invalid

LIMIT: Final = 64 << 10
_COUNT: Final = re.compile(r"[0-9]{1,7}")
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%")
_GROWTH: Final = re.compile(r"x([0-9]{1,3}(?:\.[0-9]+)?)")

PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help="YAML or JSON file with the policy, as docs/rollouts.md has it.")
]
Preset = Annotated[
    str | None, typer.Option(help="careful, standard or all-at-once: what the policy builds on (all-at-once).")
]
Waves = Annotated[
    list[str] | None,
    typer.Option("--wave", help="Who comes next: 5 devices, 10% of all, x2 as many as before, or a label ring=canary."),
]
Success = Annotated[float | None, typer.Option("--success", help="Percent of a wave that must be committed.")]
Failure = Annotated[float | None, typer.Option("--failure", help="Percent of a wave that may fail.")]
Minimum = Annotated[int | None, typer.Option(help="Devices that must have ended before a share of failures counts.")]
Soak = Annotated[str | None, typer.Option(help="How long a complete wave is watched before the next: 10m.")]
Approval = Annotated[bool, typer.Option("--approval", help="Each wave waits for edgefleet rollouts approve.")]
Deadline = Annotated[str | None, typer.Option(help="How long a device has from its order on: 6h (1d).")]
Concurrency = Annotated[int | None, typer.Option(help="At most so many devices at work at once.")]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", help="label=N: of devices with one value of it, at most N at work at once.")
]
Starts = Annotated[str | None, typer.Option(help="When it begins: 2027-03-01T22:00:00+01:00 (at once).")]
LateJoiners = Annotated[
    bool, typer.Option("--late-joiners", help="Devices that the selector means later come as a last wave.")
]
OnFailure = Annotated[
    Literal["pause", "revert-wave", "revert"] | None,
    typer.Option(help="When it fails: stop there (pause), or take the wave or all of it back."),
]


def wave(text: str) -> dict[str, Any]:
    """One wave: ``5``, ``10%``, ``x2``, or a selector."""
    if _COUNT.fullmatch(text):
        return {"count": int(text)}
    if match := _PERCENT.fullmatch(text):
        return {"percent": float(match[1])}
    if match := _GROWTH.fullmatch(text):
        return {"growth": float(match[1])}
    return {"label": text}


def budget(text: str) -> dict[str, Any]:
    """``site=1``.

    Raises:
        Invalid: it is not a label and a number.
    """
    label, equals, count = text.partition("=")
    if not equals or not _COUNT.fullmatch(count):
        raise Invalid(f"{text!r} is not a label and a number", element="--budget", remedy="write --budget site=1")
    return {"label": label, "at_most": int(count)}


def read(file: Path | None) -> dict[str, Any]:
    """What a policy file says; nothing without one. The server checks what it means.

    Raises:
        Invalid: it cannot be read, or is no mapping of names to values.
    """
    if file is None:
        return {}
    try:
        data = file.read_bytes()
        if len(data) > LIMIT:
            raise Invalid(f"more than {LIMIT} bytes", element=str(file))
        found = yaml.safe_load(data)  # JSON is YAML too
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", element=str(file)) from error
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise Invalid(f"this is not YAML: {' '.join(str(error).split())[:300]}", element=str(file)) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise Invalid("it is not a policy", element=str(file), remedy="write it as docs/rollouts.md shows")
    # YAML makes a date of what looks like one; it is a moment in words here.
    return found | ({"starts": str(found["starts"]).replace(" ", "T")} if "starts" in found else {})


def combine(written: dict[str, Any], waves: list[str] | None, **options: Any) -> dict[str, Any]:
    """The file's policy with what was said on the command line besides."""
    said = {name: value for name, value in options.items() if value is not None and value is not False}
    if waves:
        said["waves"] = [wave(text) for text in waves]
    return written | said
