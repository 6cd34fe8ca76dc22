"""Where requests are run: on the event loop while runs are quick, in threads once they are not."""

import gc
import time
import weakref

import pytest

from modules.scoring.graphs.lanes import TOO_LONG_INLINE_S, Lanes
from modules.scoring.metrics import Figures
from modules.scoring.runtime import BadInput


class Session:
    """Runs that take what they are told to."""

    def options(self, *, trim=False):
        return object()

    def stop(self, options):
        raise AssertionError(f"nothing here takes so long: {options}")

    def run(self, feeds, options):
        del options
        feeds["take"](2 * TOO_LONG_INLINE_S)
        return [time.perf_counter()]


def compute(seconds):
    """Use the processor."""
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


@pytest.fixture
async def lanes():
    made = Lanes(Session(), threads=1, timeout_s=60, queue=1, figures=Figures())
    made.run_inline()
    yield made
    await made.close()


async def test_a_run_that_computes_for_long(lanes):
    """The second run that computes for long is the last on the event loop: the first was told by the clock alone."""
    assert lanes.submit(0, lambda: {"take": compute}, lambda values, _: values)
    assert lanes.inline
    assert lanes.submit(0, lambda: {"take": compute}, lambda values, _: values)
    assert not lanes.inline
    assert await lanes.submit(0, lambda: {"take": compute}, lambda values, _: values)


async def test_a_run_that_is_kept_waiting(lanes):
    """Runs that had to wait for the processor say nothing about the model: the next stay where they were."""
    for _ in range(3):
        assert lanes.submit(0, lambda: {"take": time.sleep}, lambda values, _: values)
        assert lanes.inline


class Body:
    """Something large that can be watched."""


@pytest.fixture
async def threads():
    made = Lanes(Session(), threads=1, timeout_s=60, queue=1, figures=Figures())
    yield made
    await made.close()


def raising(error):
    raise error


async def test_an_answer_that_is_an_exception(threads):
    """What encoding gives is the answer, whatever its type; what it raises goes to the one who asked."""
    quick = {"take": lambda _: None}
    assert isinstance(await threads.submit(0, lambda: quick, lambda *_: KeyError()), KeyError)
    with pytest.raises(TypeError, match="no answer"):
        await threads.submit(0, lambda: quick, lambda *_: raising(TypeError("no answer")))


@pytest.mark.parametrize("good", [True, False])
async def test_a_body_is_let_go(threads, good):
    """Once its request is answered or refused nothing holds a body, even before the garbage collector comes."""
    body = Body()
    watch = weakref.ref(body)

    def ask(body):
        def decode():
            if not good:
                raise BadInput(f"not {body!r}")
            return {"take": lambda _: None}

        return threads.submit(0, decode, lambda *_: LookupError("an answer of the type that a reply has"))

    gc.disable()
    try:
        job = ask(body)
        del body
        try:
            await job
        except BadInput:
            assert not good
        del job
        await threads.in_thread(lambda: None)
        assert watch() is None
    finally:
        gc.enable()
