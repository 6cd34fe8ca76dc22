"""The program of a batch job as every kind of target runs it (modules/batch_program.py), for a job of the server's."""

import msgspec

from fleet.targets.contract import Job, JobStanding
from fleet.targets.runtimes import DEFAULT_MB
from modules import batch_program
from modules.batch_program import OUTPUTS, Progress


def arguments(job: Job, *, module: str) -> list[str]:
    """Its command line; ``module`` is the folder with the module."""
    return batch_program.arguments(job.settings, module=module, outputs=f"{OUTPUTS}/{job.name}")


def memory_mb(job: Job) -> int:
    """For all its workers together, in MiB."""
    manifest = job.module.manifest
    each = manifest.proof.limits.memory_mb or manifest.needs.memory_mb or DEFAULT_MB
    return job.settings.memory_mb or each * job.settings.workers


def with_progress(standing: JobStanding, found: Progress | None) -> JobStanding:
    if found is None:
        return standing
    return msgspec.structs.replace(standing, items=found.items, answered=found.answered, set_aside=found.set_aside)
