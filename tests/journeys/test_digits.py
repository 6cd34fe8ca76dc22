"""An ONNX file from an engineer's laptop to a device; then its successor, and one that must not stay."""

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest

from fleet.client.publishing import pack
from fleet.client.publishing.publish import publish
from fleet.client.workspace import FILES
from modules.names import ModuleRef
from tests.parts import digits
from tests.parts.system import TEAM
from tests.parts.traffic import Traffic

SLOT = "digits"
# While nothing changes, so that before and after are seen as well.
STEADY = 50


@pytest.fixture(scope="module")
def edge(shared_device):
    return shared_device("dev-digits")


@pytest.fixture(scope="module")
def first(system, edge, digits_module):
    """Version 1, and its rollout."""
    return system.ended(system.start_rollout(digits_module, edge.name, slot=SLOT), said=edge.said)


def roll_out_under_load(system, edge, ref, *more):
    """A rollout while an application posts all the time; returns both."""
    with Traffic(edge.port, f"/{SLOT}/score", digits.QUESTIONS) as traffic:
        edge.until(lambda: len(traffic.answers) > STEADY, "the application gets answers")
        rollout = system.ended(system.start_rollout(ref, edge.name, slot=SLOT, more=more), said=edge.said)
        # The old instance is stopped after the commit, the bad one after the revert.
        edge.until(lambda: len(instances(edge)) == 1, "one instance is left")
        seen = len(traffic.answers)
        edge.until(lambda: len(traffic.answers) > seen + STEADY, "the application gets answers")
    return rollout, traffic


def instances(edge):
    with edge.containers() as containers:
        return [one.name for one in containers]


@pytest.fixture(scope="module")
def second(system, edge, first, tmp_path_factory):
    """Version 2, its rollout, and what the application saw meanwhile."""
    folder = tmp_path_factory.mktemp("second")
    ref = system.sign(system.register(digits.trained_on(folder), "digits", *digits.samples(folder)))
    return ref, *roll_out_under_load(system, edge, ref)


@pytest.fixture(scope="module")
def wrong(system, second):
    """Version 3: rightly signed by its team, with samples that its graph does not answer as they say."""
    before = ModuleRef.parse(second[0])
    with tempfile.TemporaryDirectory() as scratch, system.fleet() as fleet:
        folder = Path(scratch) / "module"
        shutil.copytree(system.workspace.module(before), folder)
        shutil.copyfile(digits.confused(Path(scratch)), folder / FILES / "model" / "digits.onnx")
        manifest, _ = system.workspace.manifest(before)
        changed = msgspec.structs.replace(manifest, files=pack.measure_files(folder, silent))
        made = publish(changed, folder, fleet, system.workspace, silent)
    return system.sign(str(made.manifest.ref))


def silent(*_):
    """Nobody watches."""


@pytest.fixture(scope="module")
def third(system, edge, wrong):
    """Its rollout, and what the application saw meanwhile."""
    return roll_out_under_load(system, edge, wrong)


def test_a_signed_model_is_committed_and_answers_right(system, edge, first, digits_module):
    """Registered, signed, ordered, pulled, proved: then all twenty images get their digit from the gateway."""
    assert first["state"] == "done"
    assert [(one["device"], one["phase"]) for one in first["devices"]] == [(edge.name, "committed")]
    reached = [phase for phase, _ in first["devices"][0]["times"]]
    assert reached == ["accepted", "fitted", "fetching", "verified", "staged", "starting", "probation", "committed"]
    assert sum(image["digit"] == digit for image, digit in zip(digits.IMAGES, digits.EXPECTED, strict=True)) >= 19
    for question in digits.QUESTIONS:
        answer = edge.score(SLOT, question.body)
        assert answer.status == 200, answer.body
        assert question.wrong(answer.body) == ""
        assert answer.headers["x-edgefleet-module"] == digits_module
        assert answer.headers["x-edgefleet-provider"] == "CPUExecutionProvider"


def test_the_next_version_replaces_it_without_one_failed_request(edge, first, second, digits_module):
    """While an application posts every 10 ms, version 2 takes over: every answer comes and is right."""
    ref, rollout, traffic = second
    assert rollout["state"] == "done"
    assert ref == f"{TEAM}/digits:2"
    assert traffic.failed == []
    assert traffic.modules() == ([digits_module, ref], [digits_module, ref])


def test_a_version_with_wrong_answers_never_serves(edge, second, third, wrong):
    """Right signature, wrong answers on the samples: reverted with the reason, and no request noticed."""
    rollout, traffic = third
    told = rollout["devices"][0]
    assert (rollout["state"], told["phase"], told["reason"]["code"]) == ("failed", "reverted", "wrong-answer")
    assert told["serving"]["module"] == second[0]
    assert traffic.failed == []
    assert traffic.modules() == ([second[0]], [second[0]])


@pytest.mark.long
def test_what_failed_here_is_not_tried_again(system, edge, second, third, wrong):
    """The bad bytes are refused at the next order, even after a good one; with a waiver they get another try."""
    back = system.ended(system.start_rollout(second[0], edge.name, slot=SLOT), said=edge.said)
    assert back["state"] == "done"
    again = system.ended(system.start_rollout(wrong, edge.name, slot=SLOT), said=edge.said)
    told = again["devices"][0]
    assert (again["state"], told["phase"], told["reason"]["code"]) == ("failed", "rejected", "unfit")
    assert "failed here before" in told["reason"]["message"]
    assert [phase for phase, _ in told["times"]] == ["accepted", "rejected"]
    waived = system.ended(system.start_rollout(wrong, edge.name, slot=SLOT, more=("--waive",)), said=edge.said)
    told = waived["devices"][0]
    assert (waived["state"], told["phase"], told["reason"]["code"]) == ("failed", "reverted", "wrong-answer")
    assert edge.score(SLOT, digits.QUESTIONS[0].body).headers["x-edgefleet-module"] == second[0]


def test_the_agent_has_loaded_no_more_than_it_needs(edge, second):
    """After two rollouts: none of the tables of scripts that a lookup of hosts loads, and what is for HSMs, too."""
    libraries = Path(f"/proc/{edge.agent.pid}/maps").read_text()

    assert "/cryptography/" in libraries
    assert "/unicodedata" not in libraries
