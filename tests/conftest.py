"""What every test stands on: real parts that it needs, a clean environment, no task and no process left behind."""

import asyncio
import functools
import gc
import inspect
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.parts.again import remember
from tests.parts.left_running import LeftRunning
from tests.parts.pace import stretched
from tests.parts.presence import PARTS, missing

_REQUIRE = "EDGEFLEET_REQUIRE"
_LEFT_OVER_S = 5.0
# Says to a Python that starts what coverage it is to measure, if any.
_MEASURED = "COVERAGE_PROCESS_CONFIG"
# The same examples in each run, or a run would fail by chance for what was there before; test-long draws others.
settings.register_profile("alike", derandomize=True, deadline=None)
settings.load_profile("alike")
# Tests are handed out to processes file by file: the long ones first, or one works at the end while the others wait.
_FIRST = [Path(__file__).parent / name for name in ("journeys", "modules")]
_WHOLE_SYSTEMS = [Path(__file__).parent / name for name in ("attacks", "journeys")]


def pytest_configure(config):
    # What distributes tests to other processes runs none itself; where there is no /proc, nothing can be found.
    runs_tests = hasattr(config, "workerinput") or config.getoption("dist", "no") == "no"
    if runs_tests and Path("/proc/self/environ").exists():
        config.pluginmanager.register(LeftRunning(config), "left-running")


# Last, for folders have limits of their own.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: [folder not in item.path.parents for folder in _FIRST])
    for item in items:
        _give_time(item)
        for name in _needed(item):
            if name not in PARTS:
                raise pytest.UsageError(f"{item.nodeid} needs {name!r}, which is none of {', '.join(PARTS)}")
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _leaving_no_task(item.obj)


def pytest_collection_finish(session):
    remember(session.config, len(session.items))
    # The tests themselves are a million objects that last: without them each look for garbage is shorter.
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    _measure(item)
    # A cluster is nothing that a machine has or lacks: whoever wants these tests names one.
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    if item.get_closest_marker("kubernetes") and not any(Path(one).is_file() for one in named):
        pytest.skip("KUBECONFIG names no cluster")
    reasons = [reason for name in _needed(item) if (reason := missing(name))]
    if not reasons:
        return
    if os.environ.get(_REQUIRE) == "all":
        pytest.fail("; ".join(reasons), pytrace=False)
    pytest.skip("; ".join(reasons))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport():
    """Collect nothing while a failure is described.

    That parses source. A warning of what is collected meanwhile parses too, and CPython 3.11 cannot do one within the
    other (SystemError: AST constructor recursion depth mismatch): the whole run would end.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No test sees the settings of the person who runs it."""
    for name in list(os.environ):
        if name.startswith(("EDGEFLEET_", "AZUREML_")) and name != _REQUIRE:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives loopback TCP ports that nothing listens on, each once."""
    given = set()

    def pick() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            if port not in given:
                given.add(port)
                return port

    return pick


def _give_time(item):
    """Stretch what the test may take, unless whoever runs it has said how long."""
    marker = item.get_closest_marker("timeout")
    if marker is not None or item.config.getoption("timeout") is None:
        seconds = marker.args[0] if marker is not None else float(item.config.getini("timeout") or 0)
        item.add_marker(pytest.mark.timeout(stretched(seconds)), append=False)


def _measure(item):
    """Programs that whole systems start are not measured: it takes almost half of their time.

    What is in them has tests of its own, which are.
    """
    if said := _measurement():
        os.environ[_MEASURED] = said
        if any(folder in item.path.parents for folder in _WHOLE_SYSTEMS):
            del os.environ[_MEASURED]


@functools.cache
def _measurement():
    """As it was before the first test."""
    return os.environ.get(_MEASURED)


def _needed(item):
    return [name for marker in item.iter_markers("needs") for name in marker.args]


def _leaving_no_task(test):
    """The same test, which fails if a task that it started outlives it."""

    @functools.wraps(test)
    async def guarded(*args, **kwargs):
        before = asyncio.all_tasks()
        await test(*args, **kwargs)
        left = asyncio.all_tasks() - before
        if left:
            _, left = await asyncio.wait(left, timeout=_LEFT_OVER_S)
        assert not left, f"tasks outlive the test: {', '.join(sorted(task.get_name() for task in left))}"

    return guarded
