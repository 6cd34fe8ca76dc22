"""The policies of docs/rollouts.md are read and planned as they stand there."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from fleet import selectors
from fleet.client.commands import policy_options
from fleet.rollouts import gates, policy
from fleet.rollouts.model import Budget, Candidate, Policy
from fleet.rollouts.planner import plan
from modules.names import DeviceId

PAGE = (Path(__file__).parents[3] / "docs" / "rollouts.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


def fleet_of(count):
    labels = [{"ring": "canary" if number < 2 else "stable"} for number in range(count)]
    return [Candidate(DeviceId(f"dev-{number:03}"), labels[number]) for number in range(count)]


def test_there_is_an_example_for_each_preset():
    """And no preset that the page does not explain."""
    named = [yaml.safe_load(one).get("preset") for one in EXAMPLES]
    assert [name for name in named if name] == list(policy.PRESETS)


def test_there_is_an_example_for_each_gate():
    """Each measure stands in the table with its limits, and in a policy that can be copied."""
    shown = {gate["measure"] for one in EXAMPLES for gate in yaml.safe_load(one).get("gates", ())}
    assert shown == set(get_args(gates.Measure))
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (`\w+`(?:, `\w+`)*) \| [^|]+ \|$", PAGE, flags=re.MULTILINE)
    explained = {name: limits for names, limits in rows for name in re.findall(r"\w+", names)}
    assert {name: tuple(re.findall(r"\w+", explained[name])) for name in shown} == {
        name: gates.limits(name) for name in shown
    }


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_is_read_from_a_file_and_planned(text, tmp_path):
    """As an operator would write it."""
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    read = policy.read(policy_options.combine(policy_options.read(file), None))
    assert sum(len(wave.devices) for wave in plan(fleet_of(100), read)) == 100


def test_the_fields_of_the_tables_are_the_policys():
    """Every field of a policy is explained, and none that does not exist."""
    before_gates = PAGE.partition("## Gates")[0].partition("## Waves")[2]
    explained = set(re.findall(r"^\| `(\w+)` \|", before_gates, flags=re.MULTILINE)) | {"waves", "on_failure", "gates"}
    assert explained == set(Policy.__struct_fields__)


@pytest.mark.parametrize(
    ("words", "rule"),
    re.findall(r"^\| `(?:count|percent|label|growth): (\S+)` \| `--wave (\S+)` \|", PAGE, flags=re.MULTILINE),
)
def test_a_wave_on_the_command_line_is_the_wave_of_a_file(words, rule):
    """Both columns of the table say the same."""
    [(_, value)] = policy_options.wave(rule).items()
    assert value == (float(words) if words.replace(".", "").isdigit() else words)


def test_options_replace_what_the_file_says(tmp_path):
    """The rest of the file stays."""
    file = tmp_path / "policy.json"
    file.write_text('{"preset": "standard", "deadline": "6h", "waves": [{"count": 9}]}')
    budget = policy_options.budget("site=2")
    written = policy_options.combine(
        policy_options.read(file),
        ["1", "ring=canary"],
        deadline="1h",
        budget=budget,
        failure_percent=0,
        late_joiners=False,
    )
    read = policy.read(written)
    assert (read.deadline, read.budget, read.failure_percent) == ("1h", Budget(label="site", at_most=2), 0.0)
    assert (read.soak, "late_joiners" in written) == ("10m", False)
    assert [str(one) for one in read.waves] == ["count 1", "label ring=canary"]


def test_every_fact_that_a_selector_can_name_is_explained():
    """And none that no device has."""
    assert set(re.findall(r"`((?:host|agent)\.\w+)`", PAGE)) == set(selectors.FACTS)
