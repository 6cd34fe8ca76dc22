"""Commands: a closed list, bounded arguments, and a life that ends."""

import pytest

from modules.errors import Invalid
from modules.protocol.batch import BatchOrder
from modules.protocol.commands import COMMANDS, LONGEST_LIFE_S, Command, decode, encode

LOGS = {"id": "ab" * 16, "device": "dev-a", "name": "logs", "issued": 1000, "expires": 1600, "slot": "camera"}
JOB = BatchOrder(mark="0f" * 8, name="night", module="sha256:" + "a" * 64, inputs="pictures", outputs="answers")


def test_what_is_in_the_list_is_read():
    """Each command of the list goes out and comes back as it was, with the largest of its arguments."""
    for name, kind in COMMANDS.items():
        arguments = {argument: most for argument, (_, most) in kind.arguments.items()}
        changed = {"name": name, "slot": "camera" if kind.slot else None, "arguments": arguments}
        changed["batch"] = JOB if kind.batch else None
        command = Command(**LOGS | changed)

        assert decode(encode(command)) == command


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"name": "shell"}, "no such command"),
        ({"slot": None}, "needs a slot"),
        ({"name": "ping"}, "takes no slot"),
        ({"batch": JOB}, "takes no batch job"),
        ({"name": "batch-start", "slot": None}, "is started and cancelled as such"),
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
