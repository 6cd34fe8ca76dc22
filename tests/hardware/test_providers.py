import pytest
from hypothesis import given
from hypothesis import strategies as some

from hardware.providers import ON_CPU, choose, offered
from modules.errors import Unfit
from modules.manifest import Runtime
from modules.needs import Accelerator, HostFacts

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
BARE = HostFacts(platform="linux/amd64")
WITH_GPU = HostFacts(
    platform="linux/amd64", accelerators=(Accelerator(kind="nvidia", name="NVIDIA A2", providers=(TENSORRT, CUDA)),)
)


@pytest.mark.parametrize(
    ("facts", "accelerator", "wanted", "chosen"),
    [
        pytest.param(BARE, "cpu", (CPU,), (CPU,), id="when there is only a processor"),
        pytest.param(WITH_GPU, "nvidia", (CUDA, CPU), (CUDA, CPU), id="when the host has what is asked for"),
        pytest.param(
            WITH_GPU, "nvidia", (CUDA, TENSORRT), (CUDA, TENSORRT), id="when the publisher prefers another order"
        ),
        pytest.param(BARE, "nvidia", (CUDA, CPU), (CPU,), id="when the accelerator is not there"),
        pytest.param(WITH_GPU, "cpu", (CUDA, CPU), (CPU,), id="when the runtime is for the processor"),
    ],
)
def test_order(facts, accelerator, wanted, chosen):
    """Providers are the publisher's, in the publisher's order, without those that this host has not got."""
    assert choose(facts, Runtime(accelerator=accelerator, providers=wanted)) == chosen


def test_none_left():
    """A host that offers none of a runtime's providers cannot run it; nothing else is quietly used instead."""
    with pytest.raises(Unfit, match=CUDA):
        choose(BARE, Runtime(accelerator="nvidia", providers=(CUDA,)))


@given(some.lists(some.sampled_from([*ON_CPU, CUDA, TENSORRT, "QNNExecutionProvider"]), unique=True), some.booleans())
def test_never_more_than_both_sides_say(wanted, gpu):
    """Whatever is asked for, what comes out is asked for and offered, in the order in which it was asked for."""
    facts = WITH_GPU if gpu else BARE
    runtime = Runtime(accelerator="nvidia", providers=tuple(wanted))
    try:
        chosen = choose(facts, runtime)
    except Unfit:
        assert not set(wanted) & offered(facts, runtime)
    else:
        assert list(chosen) == [one for one in wanted if one in offered(facts, runtime)]
