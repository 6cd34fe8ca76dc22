"""The batch jobs of this device, as one document of its store: what was ordered, and how far each is."""

import logging
from typing import Final, Literal

import msgspec

from agent.store import Store
from modules.bounds import Count, Sentence
from modules.canonical import UNREADABLE
from modules.clipping import clipped
from modules.protocol.batch import MAX_JOBS, BatchOrder, JobReport

#: The document of the store.
JOBS: Final = "batch jobs"
_ENDED: Final = frozenset({"done", "failed", "cancelled"})
_log = logging.getLogger(__name__)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job; ``why`` it is where it is.

    ``starts`` are those since it last came further, which it was at ``further``: that many inputs were dealt with.
    ``boot`` is the boot in which it was started last: with the next one its container has ended, for no fault of its;
    ``beside`` says whose secrets it was given, and which.
    """

    order: BatchOrder
    state: Literal["paused", "running", "done", "failed", "cancelled"] = "paused"
    why: Sentence = ""
    items: Count = 0
    answered: Count = 0
    set_aside: Count = 0
    starts: Count = 0
    further: Count = 0
    boot: str = ""
    beside: str = ""

    @property
    def is_over(self) -> bool:
        return self.state in _ENDED

    @property
    def dealt_with(self) -> int:
        return self.answered + self.set_aside

    @property
    def report(self) -> JobReport:
        return clipped(
            JobReport(
                mark=self.order.mark,
                name=self.order.name,
                state=self.state,
                why=self.why,
                items=self.items,
                answered=self.answered,
                set_aside=self.set_aside,
                starts=self.starts,
            )
        )


_JOBS: Final = msgspec.json.Decoder(tuple[Job, ...])


def read(store: Store) -> tuple[Job, ...]:
    """The jobs, the newest last. What no agent of this version wrote is none."""
    document = store.document(JOBS)
    if document is None:
        return ()
    try:
        return _JOBS.decode(document)
    except UNREADABLE as error:
        _log.warning("the batch jobs cannot be read, and are forgotten: %s", error)
        return ()


def put(store: Store, job: Job) -> None:
    """Keep a job: in the place of the one with its mark, or as the newest.

    Of those that have ended the oldest go where there are too many.

    Raises:
        NoSpace: the disk takes no more; nothing has changed.
    """
    with store.together():
        jobs = list(read(store))
        at = next((number for number, one in enumerate(jobs) if one.order.mark == job.order.mark), len(jobs))
        jobs[at : at + 1] = [job]
        while len(jobs) > MAX_JOBS and (over := next((one for one in jobs if one.is_over), None)):
            jobs.remove(over)
        store.keep_document(JOBS, msgspec.json.encode(jobs))
