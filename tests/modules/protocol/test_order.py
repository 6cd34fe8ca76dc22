"""The order: what an older agent may skip, and what it must not."""

import json

import msgspec
import pytest

from modules.errors import Invalid
from modules.protocol import order
from tests.modules.protocol.examples import EXAMPLES

ORDER = EXAMPLES["order-1.json"].document


def newer(**more):
    """An order of a newer server, with fields that we do not know."""
    document = json.loads(order.encode(ORDER))
    document["slots"]["digits"]["share"] = 0.5
    return json.dumps(document | {"window": [1, 2]} | more).encode()


def test_fields_of_a_newer_server_are_skipped():
    """An order with fields that this agent does not know means what it means without them."""
    assert order.decode(newer()) == ORDER


@pytest.mark.parametrize("field", ["slot.share", "order.window"])
def test_what_must_be_understood_is(field):
    """An order that would mean something else without a field is refused by an agent that does not know that field."""
    with pytest.raises(Invalid, match=f"agents that know {field}.*update the agent"):
        order.decode(newer(must_understand=["slot.manifest", field]))


def test_what_is_known_may_be_demanded():
    """Fields that this agent knows may be named as such that must be understood."""
    assert order.decode(newer(must_understand=["order.waivers", "slot.fallback"])).slots == ORDER.slots


def test_the_size_is_checked_first():
    """More bytes than an order may have are refused before one of them is read, whatever they would say."""
    room = order.LIMIT - len(order.encode(ORDER))
    assert order.decode(order.encode(ORDER) + b" " * room) == ORDER
    with pytest.raises(Invalid, match=f"{order.LIMIT + 1} bytes is more than"):
        order.decode(order.encode(ORDER) + b" " * (room + 1))


def test_an_order_that_no_device_reads_is_not_signed():
    """Encoding checks like decoding: more slots than a device takes, or a number out of bounds, is refused."""
    slot = ORDER.slots["digits"]
    with pytest.raises(Invalid, match=r"length <= 64 - at `\$.slots`"):
        order.encode(msgspec.structs.replace(ORDER, slots={f"slot-{n}": slot for n in range(65)}))
    with pytest.raises(Invalid, match=r"issued"):
        order.encode(msgspec.structs.replace(ORDER, issued=10**15))
    longest = "https://" + "x" * 1992
    full = msgspec.structs.replace(slot, fallback=longest)
    assert order.encode(msgspec.structs.replace(ORDER, slots={f"slot-{n}": full for n in range(64)}))
    with pytest.raises(Invalid, match=r"fallback"):
        order.encode(msgspec.structs.replace(ORDER, slots={"a": msgspec.structs.replace(slot, fallback=longest + "x")}))


def test_an_endpoint_with_terms_is_no_fallback_for_older_agents():
    """They skip the terms and would know nothing of a budget or a region: they are given no address at all."""
    cloud = order.Cloud(url="https://cloud.example.org/digits", when=(), requests_a_day=100, region="eu-west")
    slot = msgspec.structs.replace(ORDER.slots["digits"], fallback=None, cloud=cloud)
    document = json.loads(order.encode(msgspec.structs.replace(ORDER, slots={"digits": slot})))
    assert document["slots"]["digits"].pop("cloud")
    assert "cloud.example.org" not in json.dumps(document)
    assert slot.elsewhere == cloud
    assert ORDER.slots["digits"].elsewhere == order.Cloud(url="https://scoring.example.org/digits")
