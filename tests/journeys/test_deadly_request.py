"""A client's request that ends ONNX Runtime's own process: the others wait for seconds, and no version is to blame."""

import pytest

from tests.parts import dividing
from tests.parts.pace import stretched

pytestmark = pytest.mark.long

SLOT = "dividing"
# More than take back a version whose module ends by itself.
TIMES = 6
BACK_WITHIN_S = 20.0


@pytest.fixture(scope="module")
def ref(system, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dividing")
    (folder / "one.json").write_bytes(b'{"body": ' + dividing.HONEST + b"}")
    return system.sign(system.register(dividing.graph(folder), "dividing", "--sample", folder / "one.json"))


def answers(edge):
    scored = edge.score(SLOT, dividing.HONEST)
    return scored.status == 200 and scored.document["y"] == dividing.ANSWER


def instance(edge):
    row = edge.slot(SLOT)
    return row.current and row.current.instance


def test_a_request_that_ends_the_runtime_condemns_no_version(system, device, ref):
    """Its client is told that the module ended under this very request; others have their answers again within
    seconds; and however often that happens, the version stays committed, and an order brings it to another slot."""
    edge = device("dev-divides")
    system.ended(system.start_rollout(ref, edge.name, slot=SLOT), said=edge.said)
    first = instance(edge)
    by_zero = edge.score(SLOT, dividing.BY_ZERO)
    assert (by_zero.status, b"division by zero" in by_zero.body) == (500, True)
    assert answers(edge)
    assert instance(edge) == first

    for _ in range(TIMES):
        told = edge.score(SLOT, dividing.DEADLY)
        assert (told.status, told.headers["Retry-After"] is not None) == (503, True)
        assert b"ended, or hung up, in the middle of this very request" in told.body
        # The pauses grow, for a module that ends again and again is not to take the device's time.
        edge.until(lambda: answers(edge), "others have their answers", within_s=stretched(BACK_WITHIN_S))

    row = edge.reaches(SLOT, "committed")
    assert (str(row.phase), row.current.wanted.module) == ("committed", ref)
    rollout = system.ended(system.start_rollout(ref, edge.name, slot="again"), said=edge.said)
    assert rollout["state"] == "done"
