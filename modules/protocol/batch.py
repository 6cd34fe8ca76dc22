"""A batch job on a device: what is to be done, inside a signed command, and how far it is, inside a report."""

from typing import Annotated, Final

import msgspec

from modules.batch_program import Asking
from modules.bounds import Count, Sentence, Word
from modules.names import DigestField, SlugField

#: Among the formats of a device that takes batch jobs.
BATCH: Final = "edgefleet.batch/1"
#: Jobs that a device remembers, those that have ended among them.
MAX_JOBS: Final = 16

Mark = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]


class BatchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A job. ``mark`` tells it from an earlier one of its name; ``module`` is the digest of one that the device has.

    ``inputs`` and ``outputs`` are names that the device's owner gave to folders: no path comes from the server.
    """

    mark: Mark
    name: SlugField
    module: DigestField
    inputs: SlugField
    outputs: SlugField
    asking: Asking = Asking()


class JobReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is, and why it is there: ``paused`` until the device is idle, ``running``, or how it ended."""

    mark: Mark
    name: SlugField
    state: Word
    why: Sentence = ""
    items: Count = 0
    answered: Count = 0
    set_aside: Count = 0
    starts: Count = 0
