"""Whether a host can run a module, and why not."""

import msgspec
import pytest

from modules.digests import Blob
from modules.manifest import File, Image, Manifest, Needs, OnnxGraph, Runtime
from modules.needs import Accelerator, Engine, HostFacts, fits

ZERO = "sha256:" + "0" * 64
BLOB = Blob(ZERO, 1, ZERO)
IMAGE = Image(name="scoring", manifest=BLOB, config=BLOB, layers=(BLOB,))
CPU = Runtime(image=IMAGE)
CUDA = Runtime(accelerator="cuda", providers=("CUDAExecutionProvider",), image=IMAGE)
ARM = Runtime(platform="linux/arm64", image=IMAGE)
BARE = Runtime()

HOST = HostFacts(
    platform="linux/amd64",
    cores=2.0,
    memory_mb=1024,
    disk_free_mb=1024,
    engines=(Engine(name="docker"), Engine(name="process")),
)
GPU_HOST = msgspec.structs.replace(HOST, accelerators=(Accelerator(kind="cuda", name="a card"),))


def module(*runtimes, length=1, **needs):
    return Manifest(
        team="acme",
        name="digits",
        version="3",
        serve=OnnxGraph(file="model.onnx"),
        files=(File(sha256=ZERO, length=length, blocks=ZERO, path="model.onnx"),),
        runtimes=runtimes,
        needs=Needs(**needs),
    )


@pytest.mark.parametrize(
    ("manifest", "host", "engine", "chosen"),
    [
        pytest.param(module(CPU), HOST, "docker", CPU, id="one runtime that fits"),
        pytest.param(module(CUDA, CPU), HOST, "docker", CPU, id="without the card, the CPU"),
        pytest.param(module(CUDA, CPU), GPU_HOST, "docker", CUDA, id="with the card, the card"),
        pytest.param(module(CPU, CUDA), GPU_HOST, "docker", CPU, id="the publisher's order decides"),
        pytest.param(module(ARM, CPU), HOST, "docker", CPU, id="the host's platform"),
        pytest.param(module(BARE, CPU), HOST, "docker", CPU, id="docker passes over a runtime without image"),
        pytest.param(module(BARE), HOST, "process", BARE, id="the process engine needs no image"),
        pytest.param(module(CPU, memory_mb=1024, disk_mb=1024, cpu_cores=2), HOST, "docker", CPU, id="just enough"),
    ],
)
def test_picks_the_first_runtime_that_the_host_can_run(manifest, host, engine, chosen):
    """A host that has all that is needed runs the first runtime that fits, in the publisher's order."""
    fit = fits(manifest, host, engine=engine)

    assert fit
    assert (fit.runtime, fit.engine, fit.unmet) == (chosen, engine, ())


@pytest.mark.parametrize(
    ("manifest", "host", "engine", "reason"),
    [
        (module(CPU), HOST, "podman", "no podman engine (has: docker, process)"),
        (module(CPU), msgspec.structs.replace(HOST, engines=()), "docker", "no docker engine (has: none)"),
        (module(ARM), HOST, "docker", "no runtime for linux/amd64 (offers: linux/arm64)"),
        (module(CUDA), HOST, "docker", "no accelerator of the kinds it runs on (cuda); has: cpu"),
        (module(BARE), HOST, "docker", "no image in its runtime, so only the process engine could run it"),
        (module(CPU, memory_mb=2048), HOST, "docker", "needs 2048 MiB of memory, has 1024"),
        (module(CPU, disk_mb=2048), HOST, "docker", "needs 2048 MiB of disk, has 1024 free"),
        (module(CPU, length=3 << 30), HOST, "docker", "needs 3072 MiB of disk, has 1024 free"),
        (module(CPU, cpu_cores=2.5), HOST, "docker", "needs 2.5 cores, is granted 2"),
    ],
)
def test_says_what_is_missing(manifest, host, engine, reason):
    """A misfit gives its reason in the operator's words."""
    fit = fits(manifest, host, engine=engine)

    assert not fit
    assert fit.unmet == (reason,)


def test_says_everything_at_once():
    """All reasons come together, so that one look is enough."""
    fit = fits(module(ARM, memory_mb=9999, cpu_cores=99), msgspec.structs.replace(HOST, engines=()))

    assert len(fit.unmet) == 4
    assert fit.runtime is None
