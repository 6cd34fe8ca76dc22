"""The program of a batch job as every kind of target runs it (modules/scoring/batch), and what it says of itself."""

from typing import Final

import msgspec

from fleet.targets.contract import Job, JobStanding
from fleet.targets.runtimes import DEFAULT_MB
from modules.words import printable

COMMAND: Final = ("python", "-m", "modules.scoring.batch")
#: where a job finds its inputs and has its answers
INPUTS: Final = "/inputs"
OUTPUTS: Final = "/outputs"
#: so often it is started when it did not end by itself: its memory ran out, or its host went away
STARTS: Final = 10
#: its own words for an end: the command line, the module, the inputs, the disk
ITS_OWN: Final = frozenset({1, 3, 4, 5})
_WORDS: Final = 700


class _Progress(msgspec.Struct, frozen=True):
    items: int
    answered: int
    set_aside: int


def arguments(job: Job, *, module: str) -> list[str]:
    """Its command line; ``module`` is the folder with the module."""
    settings = job.settings
    options = {
        "--module": module,
        "--inputs": INPUTS,
        "--outputs": f"{OUTPUTS}/{job.name}",
        "--state": f"{OUTPUTS}/{job.name}/.state",
        "--match": settings.match,
        "--workers": str(settings.workers),
        "--mini-batch": str(settings.mini_batch),
        "--retries": str(settings.retries),
        "--error-threshold": str(settings.error_threshold),
        "--timeout": str(settings.timeout_s),
    }
    return [f"{name}={value}" for name, value in options.items()]


def memory_mb(job: Job) -> int:
    """For all its workers together, in MiB."""
    manifest = job.module.manifest
    each = manifest.proof.limits.memory_mb or manifest.needs.memory_mb or DEFAULT_MB
    return job.settings.memory_mb or each * job.settings.workers


def told(text: str | bytes) -> _Progress | None:
    """How far it is, where a line says so; it may say anything."""
    try:
        return msgspec.json.decode(text, type=_Progress)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def with_progress(standing: JobStanding, found: _Progress | None) -> JobStanding:
    if found is None:
        return standing
    return msgspec.structs.replace(standing, items=found.items, answered=found.answered, set_aside=found.set_aside)


def last_words(log: str) -> str:
    """The last line of a log."""
    return printable(log.rstrip("\n").rpartition("\n")[2], _WORDS) if log else ""
