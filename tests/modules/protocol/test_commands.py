"""Commands: a closed list, bounded arguments, and a life that ends."""

import re

import pytest

from modules.errors import Invalid
from modules.protocol.batch import BatchOrder
from modules.protocol.commands import (
    COMMANDS,
    LIMIT,
    LONGEST_LIFE_S,
    TRIAL_BODY,
    TRY,
    Command,
    Trial,
    decode,
    encode,
)
from modules.signing import COMMAND_TYPE, sign
from tests.doubles import keys
from tests.house.tree import ROOT

LOGS = {"id": "ab" * 16, "device": "dev-a", "name": "logs", "issued": 1000, "expires": 1600, "slot": "camera"}
JOB = BatchOrder(mark="0f" * 8, name="night", module="sha256:" + "a" * 64, inputs="pictures", outputs="answers")


def test_what_is_in_the_list_is_read():
    """Each command of the list goes out and comes back as it was, with the largest of its arguments."""
    for name, kind in COMMANDS.items():
        arguments = {argument: most for argument, (_, most) in kind.arguments.items()}
        changed = {"name": name, "slot": "camera" if kind.slot else None, "arguments": arguments}
        changed["batch"] = JOB if kind.batch else None
        trial = {"trial": Trial(body=b"x" * TRIAL_BODY)} if kind.trial else {}
        command = Command(**LOGS | changed | trial)

        assert decode(encode(command)) == command


def test_the_largest_one_fits_into_a_message_of_the_broker():
    """What a module is asked is encoded twice on its way; the broker's configuration says what it takes."""
    said = (ROOT / "deploy/broker/mosquitto.conf").read_text(encoding="utf-8")
    most = int(re.search(r"^max_packet_size (\d+)$", said, re.MULTILINE)[1])
    command = Command(**LOGS | {"name": TRY, "trial": Trial(body=b"x" * TRIAL_BODY, content_type="x" * 100)})
    signers = [keys.signer() for _ in range(2)]
    assert len(sign(encode(command), payload_type=COMMAND_TYPE, signers=signers)) + 1000 < most


def test_only_what_a_module_is_asked_makes_a_command_large():
    """Under any other name so many bytes are refused."""
    with pytest.raises(Invalid, match="more than the"):
        decode(encode(Command(**LOGS)) + b" " * LIMIT)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"name": "shell"}, "no such command"),
        ({"slot": None}, "needs a slot"),
        ({"name": "ping"}, "takes no slot"),
        ({"batch": JOB}, "takes no batch job"),
        ({"name": "batch-start", "slot": None}, "is started and cancelled as such"),
        ({"name": TRY}, "what a module is asked"),
        ({"trial": Trial()}, "what a module is asked"),
        ({"arguments": {"path": 1}}, "no such argument"),
        ({"arguments": {"lines": 10_001}}, "not a number from 1 to 10000"),
        ({"arguments": {"lines": 0}}, "not a number from 1 to 10000"),
        ({"expires": 1000}, "expire after it was issued"),
        ({"expires": 1001 + LONGEST_LIFE_S}, "expire after it was issued"),
    ],
)
def test_nothing_else_is_a_command(changed, why):
    """What is not in the list, misses its slot, or is out of bounds is neither sent nor read."""
    command = Command(**LOGS | changed)

    with pytest.raises(Invalid, match=why):
        encode(command)
