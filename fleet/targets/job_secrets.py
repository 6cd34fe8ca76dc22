"""Secrets of a batch job on a target: given with the job, kept sealed in its row, forgotten as soon as it is over.

Its container or pod has them by the same means as an endpoint's replicas (``secret_files.py``); on a device a job has
those of the slot beside which it runs.
"""

from collections.abc import Mapping

from fleet.targets.secret_files import check_length, missing
from modules.errors import Invalid
from modules.manifest import Manifest


def check(manifest: Manifest, given: Mapping[str, bytes], *, job: str) -> None:
    """Let a job begin whose module has what it requires, and nothing that it does not know.

    Raises:
        Invalid: one is missing, or unknown to the module, or too long.
    """
    if lacking := missing(manifest, given):
        options = " ".join(f"--secret {name}=FILE" for name in lacking)
        raise Invalid(
            f"the module requires a secret that the job is not given: {', '.join(lacking)}",
            element=str(manifest.ref),
            remedy=f"run: edgefleet batch start {job} ... {options}",
        )
    for name, value in given.items():
        if name not in manifest.declared:
            declared = ", ".join(manifest.declared) or "none"
            raise Invalid(
                f"the module declares no such secret; it declares {declared}",
                element=f"secret {name}",
                remedy="leave it out, or publish a version that declares it (models register --secret)",
            )
        check_length(name, value)


def check_device(given: Mapping[str, bytes]) -> None:
    """Let a job on a device have those of its slot alone.

    Raises:
        Invalid: it is given some.
    """
    if given:
        raise Invalid(
            "a job on a device has the secrets of the slot beside which it runs",
            element=", ".join(given),
            remedy="leave them out; set those of the slot: edgefleet secrets set NAME --slot SLOT",
        )
