"""``Model.profile``: measured in real containers, in both forms of Azure ML's guide, and what cannot be measured."""

import pytest

from fleet.client.sdk import InferenceConfig, Model, WebserviceException

pytestmark = [pytest.mark.long, pytest.mark.needs("docker"), pytest.mark.timeout(400)]

SCRIPT = """
import json
import time


def init():
    pass


def run(data):
    end = time.thread_time() + 0.004
    while time.thread_time() < end:
        pass
    return len(json.loads(data)["data"])
"""
SLOW = 4.0


@pytest.fixture
def config(tmp_path):
    script = tmp_path / "score.py"
    script.write_text(SCRIPT)
    return InferenceConfig(entry_script=str(script))


def test_a_script_is_measured(ws, image, pickled, config, capsys):
    """The form of 2019: results with two numbers; more cores are measured, each takes at least the script's time."""
    model = Model.register(ws, pickled, "measured")
    profile = Model.profile(ws, "profilename", [model], config, '{"data": [1, 2]}', cpu=0.5)
    assert profile.profile_state == "Running"
    profile.wait_for_profiling(show_output=True)
    results = profile.get_results()

    said = capsys.readouterr().out
    assert "0.5 cores, no memory limit" in said
    assert "0.25 cores, no memory limit" in said
    assert results["cpu"] in {0.25, 0.5}
    assert 0 < results["memoryInGB"] <= 1
    details = profile.get_details()
    assert (details["state"], details["recommendedCpu"]) == ("Succeeded", results["cpu"])
    assert details["averageLatencyInMs"] >= SLOW
    assert details["measuredQueriesPerSecond"] > 0
    # A quarter of a core takes at least four times as long as the work does.
    (least,) = (run for run in details["runs"] if run["cpu"] == 0.25 and run["memory_mb"] is None)
    assert least["mean_ms"] >= SLOW * 2
    assert profile.serialize()["models"] == [model.id]


def test_what_cannot_be_measured_is_said(ws, image, pickled, linear_file, config):
    """Requests that the script refuses, a model that nothing opens, and more memory than was allowed."""
    model = Model.register(ws, pickled, "measured")
    with pytest.raises(WebserviceException, match="500"):
        Model.profile(ws, "refused", [model], config, "no json", cpu=0.5).wait_for_completion()
    with pytest.raises(WebserviceException, match="only a script can open"):
        Model.profile(ws, "closed", [model]).get_results()
    graph = Model.register(ws, linear_file, "graph")
    small = Model.profile(ws, "small", [graph], cpu=0.25, memory_in_gb=0.01)
    with pytest.raises(WebserviceException, match=r"GB of memory, more than 0.01"):
        small.wait_for_profiling()
