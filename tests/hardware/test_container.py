from hardware.container import Access, access
from modules.manifest import Runtime
from modules.needs import Accelerator, HostFacts

NVIDIA = Accelerator(kind="nvidia", name="NVIDIA A2", devices=("/dev/nvidia0", "/dev/nvidiactl"))
NPU = (
    Accelerator(kind="npu", name="one", devices=("/dev/accel/accel0", "/dev/accel/control")),
    Accelerator(kind="npu", name="two", devices=("/dev/accel/accel1", "/dev/accel/control")),
)
FACTS = HostFacts(platform="linux/amd64", accelerators=(NVIDIA, *NPU))


def test_cpu_gets_nothing():
    """A module for the processor sees none of the host's accelerators."""
    assert access(FACTS, Runtime()) == Access()


def test_own_kind_only():
    """A module gets the device nodes of its own kind of accelerator, each once, and no other's."""
    given = access(FACTS, Runtime(accelerator="npu"))

    assert given == Access(devices=("/dev/accel/accel0", "/dev/accel/control", "/dev/accel/accel1"))


def test_nvidia_through_its_toolkit():
    """NVIDIA GPUs come through the vendor's toolkit, which brings libraries and nodes that match the driver."""
    given = access(FACTS, Runtime(accelerator="nvidia"))

    assert (given.gpus, given.devices) == (("all",), ())
    assert given.environment == {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}


def test_missing_kind():
    """Where the accelerator is not there, nothing is given."""
    assert access(HostFacts(platform="linux/amd64"), Runtime(accelerator="nvidia")) == Access()
