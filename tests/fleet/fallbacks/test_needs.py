"""Endpoints run while a device needs them: who needs one, from when until when, and with how many replicas."""

import pytest
from sqlalchemy import delete

from fleet.fallback_tables import demands
from fleet.fallbacks import policies
from fleet.targets.endpoints import Endpoints
from modules.protocol.order import Cloud
from tests.fleet.fallbacks.conftest import URL

EVERY = ("dev-a", "dev-b", "dev-c")
LINGER_S = 60


@pytest.fixture
def served(fleet):
    """Devices with a module of which an endpoint runs on demand, and nobody needs it yet."""
    ref = fleet.module()
    fleet.endpoint(ref)
    fleet.put(on_demand=True, linger_s=LINGER_S, terms={"when": ["unplaceable", "unhealthy", "overloaded"]})
    fleet.start(ref, devices=EVERY)
    for device in EVERY:
        fleet.health(device, "up")
    return fleet


def idle(fleet):
    """The endpoint stands still, for nobody has needed it for so long."""
    fleet.look()
    fleet.now += LINGER_S
    fleet.look()
    assert fleet.row().scale == 0
    fleet.stands("stopped")


def wanted(fleet):
    row = fleet.row()
    return row.scale, row.scale_why


def test_nobody_needs_it_so_it_stops_after_a_while(served):
    """Not at once, in case somebody comes; then the target is to take it away, and its address stays known."""
    assert served.look() == (True, False)
    scale, why = wanted(served)
    assert (scale, "nobody needs it: it stops at" in why) == (1, True)
    generation = served.row().generation
    served.now += LINGER_S - 2
    assert served.look() == (False, False)
    served.now += 2
    assert served.look() == (True, False)
    assert (wanted(served), served.row().state) == ((0, "no device needs it"), "updating")
    assert served.row().generation == generation + 1
    assert served.look() == (False, False)
    assert served.cloud("dev-a").url == f"{URL}/digits"


@pytest.mark.parametrize(
    ("state", "needs", "words"),
    [
        ("restarting", True, "1 device where the module does not answer"),
        ("degraded", True, "1 device where the module does not answer"),
        ("up", False, ""),
    ],
)
def test_a_device_whose_module_does_not_answer_needs_it(served, state, needs, words):
    """It starts at once, and says for whom; when the module answers again, it lingers and stops."""
    idle(served)
    served.health("dev-b", state)
    assert served.look() == (needs, False)
    assert served.row().scale == int(needs)
    assert words in wanted(served)[1]
    if needs:
        served.stands("ready")
        served.health("dev-b", "up")
        idle(served)


def test_a_device_that_sends_requests_there_needs_it(served):
    """By what its gateway told a while ago; what it told an hour ago is no need."""
    idle(served)
    served.gateway("dev-c", requests=9.0, fallback=4.0)
    served.look()
    assert wanted(served) == (1, "it runs for 1 device whose requests go there")
    served.stands("ready")
    served.now += 3600
    idle(served)


@pytest.mark.parametrize(
    ("figures", "starts"),
    [
        ({"requests": 100.0, "overloaded": 5.0}, True),
        ({"requests": 100.0, "overloaded": 4.0}, False),
        ({"requests": 10.0, "refused": 1.0}, True),
        ({"requests": 100.0, "refused": 5.0}, False),
        ({"refused": 1.0}, True),
        ({"requests": 0.0, "overloaded": 0.0, "refused": 0.0}, False),
    ],
)
def test_a_device_that_has_too_much_to_do_has_it_started(served, figures, starts):
    """From a twentieth of its requests on, whether they waited or were turned away; a burst of a few starts nothing."""
    idle(served)
    served.gateway("dev-c", **figures)
    assert served.look() == (starts, False)
    assert served.row().scale == int(starts)
    if starts:
        assert wanted(served)[1] == "it runs for 1 device whose module has more to do than it can"


def test_one_that_runs_is_kept_for_any_and_lingers_then(served):
    """What would start nothing keeps it; once there is nothing at all, it runs on for as long as it lingers."""
    idle(served)
    served.gateway("dev-c", requests=10.0, refused=5.0)
    served.look()
    served.stands("ready")
    for _ in range(3):
        served.now += LINGER_S
        served.gateway("dev-c", requests=100.0, overloaded=1.0)
        served.look()
        assert served.row().scale == 1
    served.gateway("dev-c", requests=100.0)
    served.look()
    assert "nobody needs it: it stops at" in wanted(served)[1]
    served.now += LINGER_S
    served.look()
    assert served.row().scale == 0


def test_too_much_to_do_is_no_need_where_the_policy_does_not_say_so(served):
    """Its requests would not go there."""
    served.put(on_demand=True, linger_s=LINGER_S, terms={"when": ["unhealthy"]})
    idle(served)
    served.gateway("dev-c", requests=1.0, refused=50.0)
    served.look()
    assert served.row().scale == 0


def test_a_policy_without_a_case_does_not_start_it_for_that(served):
    """Who is not to ask there in that case, does not need it."""
    served.put(on_demand=True, linger_s=LINGER_S, terms={"when": ["unplaceable"]})
    idle(served)
    served.health("dev-a", "degraded")
    served.look()
    assert served.row().scale == 0


def test_it_is_ready_before_a_rollout_that_needs_it(served):
    """Misfits get no order until it is; what fits does not wait, and each says what it waits for."""
    idle(served)
    served.add_device("dev-big", host=served.big_host())
    huge = served.huge()
    rollout = served.start(huge, devices=("dev-a", "dev-b", "dev-big"))
    found = {one["device"]: (one["phase"], one["why"]) for one in served.view(rollout)["devices"]}
    assert {device: phase for device, (phase, _) in found.items()} == {
        "dev-a": "planned", "dev-b": "planned", "dev-big": "ordered",
    }  # fmt: skip
    assert "waits until endpoint digits, which answers for it, is ready" in found["dev-a"][1]

    assert served.look() == (True, False)
    assert wanted(served) == (1, "it runs for 2 devices that a rollout has still to order it for")
    assert served.phases(rollout)["dev-a"] == "planned"
    served.stands("ready")
    served.now += 2
    served.tick()
    assert served.phases(rollout)["dev-a"] == "ordered"
    served.look()
    assert served.row().scale == 1
    for device in ("dev-a", "dev-b"):
        served.misfit(device)
    served.look()
    assert wanted(served) == (1, "it runs for 2 devices that the module does not fit")


def test_only_the_open_waves_of_a_rollout_that_runs_need_it(served):
    """Not those of later waves, and nobody while somebody has paused it."""
    idle(served)
    rollout = served.start(served.huge(), devices=("dev-a", "dev-b"), policy=served.one_by_one())
    served.look()
    assert wanted(served) == (1, "it runs for 1 device that a rollout has still to order it for")
    served.act(rollout, "pause")
    served.look()
    assert "nobody needs it" in wanted(served)[1]


def test_a_rollouts_own_word_needs_it_too(served):
    """An endpoint that a rollout names itself is started for its misfits as for a policy's."""
    idle(served)
    cloud = Cloud(url=f"{URL}/digits", endpoint="digits", when=("unplaceable",))
    rollout = served.start(served.huge(), devices=("dev-a",), cloud=cloud)
    assert served.phases(rollout) == {"dev-a": "planned"}
    served.look()
    assert served.row().scale == 1


def test_an_endpoint_that_always_runs_is_not_waited_for(fleet):
    """Whoever wants it to run always has it; its trouble holds up no rollout."""
    fleet.endpoint(fleet.module(), state="failed")
    fleet.put()
    rollout = fleet.start(fleet.huge(), devices=("dev-a",))
    fleet.look()
    assert (fleet.phases(rollout), fleet.row().scale) == ({"dev-a": "ordered"}, None)


def test_two_policies_of_which_one_wants_it_always(served):
    """Then it runs always, as it was wished for; where both want it on demand, the longer linger counts."""
    served.put("site=lyon", on_demand=True, linger_s=2 * LINGER_S)
    with served.database.read() as connection:
        assert policies.on_demand(policies.read(connection)) == {"digits": 2 * LINGER_S}
    served.remove("site=lyon")
    idle(served)
    served.put("site=lyon", on_demand=False)
    assert served.look() == (True, False)
    assert (served.row().scale, served.row().scale_why, served.demand()) == (None, "", None)


def test_without_a_policy_it_runs_as_it_was_wished(served):
    """The last policy that wanted it on demand was removed."""
    idle(served)
    served.remove()
    served.look()
    assert served.row().scale is None


def test_there_are_as_many_replicas_as_devices_need(served):
    """One for so many devices, from its own number to the most; fewer only after a while."""
    for number in range(5):
        served.add_device(f"more-{number}", labels={"site": "berlin"})
    with served.database.write() as connection:
        settings = {"devices": True, "replicas_max": 3, "devices_per_replica": 1}
        served.change(connection, **settings)
    huge = served.huge()
    served.look()
    served.stands("ready")
    names = tuple(f"more-{number}" for number in range(5))
    served.start(huge, devices=names)
    for name in names[:3]:
        served.misfit(name)
    served.look()
    assert served.row().scale == 3
    for name in names[1:3]:
        served.health(name, "up")
    served.start(served.module(), devices=names[1:])
    served.look()
    assert served.row().scale == 3
    served.now += LINGER_S
    served.look()
    assert served.row().scale == 1


def test_the_wanted_replicas_are_the_targets(served):
    """What the target is asked to bring about has so many of the default version."""
    row = served.row()._mapping
    scaled = type("Row", (), {**row, "scale": 4})
    assert [one.replicas for one in served.wished.wanted(scaled).versions] == [4]
    assert [one.replicas for one in served.wished.wanted(type("Row", (), dict(row))).versions] == [1]


def test_one_that_never_answered_runs_until_its_address_is_known(fleet):
    """Without an address no order could name it."""
    fleet.endpoint(fleet.module())
    fleet.stands("updating", url="")
    fleet.put(on_demand=True, linger_s=0)
    fleet.look()
    assert wanted(fleet) == (1, "it runs once, so that its address is known")
    fleet.stands("ready")
    fleet.look()
    assert fleet.row().scale == 0


def test_a_server_that_was_killed_goes_on(served):
    """Without what it had found out last it finds it out again, and nothing moves."""
    idle(served)
    with served.database.write() as connection:
        connection.execute(delete(demands))
    assert served.look() == (False, False)
    assert served.row().scale == 0


def test_one_that_is_being_removed_is_left_alone(served):
    """Its end is wished for, whoever needs it."""
    with served.database.write() as connection:
        Endpoints.remove(served.wished, connection, served.now, "digits", by="anna")
    served.health("dev-a", "degraded")
    assert served.look() == (False, False)
    assert (served.row().state, served.row().scale) == ("removing", None)
