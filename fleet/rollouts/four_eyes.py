"""Four eyes: with the setting ``four_eyes`` no rollout begins before somebody else than its starter has approved it.

Nor does its starter alone let it go on once it was paused or has failed, and a slot is emptied by two (emptying.py).
Pausing, cancelling and reverting need nobody: the way back to what worked has to be open at night, too.

A starter is a person: an operator, through whichever session or token of theirs; of a rollout that a rule started,
whoever made the rule. A token that belongs to no operator may be anybody's, and so neither starts nor approves under
four eyes. What was started so keeps waiting, though the setting is turned off again.
"""

from collections.abc import Sequence

import msgspec

from fleet.refusals import Forbidden
from fleet.rollouts.model import AskedWave, PlannedWave

WAITS = "; it begins once another person has approved it"
_LOG_IN = "log in as an operator (edgefleet login URL --user NAME), or use a token that an operator has made"


def gated(waves: Sequence[PlannedWave]) -> tuple[PlannedWave, ...]:
    """The waves, of which the first waits for an approval; every approval has to be another person's."""
    return tuple(
        msgspec.structs.replace(wave, asked=_asked(wave.asked, first=number == 0)) for number, wave in enumerate(waves)
    )


def check_starter(starter: int | None, element: str) -> None:
    """Whether it is known which operator starts a rollout, or makes a rule that will.

    Raises:
        Forbidden: it is not.
    """
    if starter is None:
        raise Forbidden(
            "with four_eyes on, an operator has to start it, and this is nobody's token",
            element=element,
            remedy=_LOG_IN,
        )


def check_another(starter: int | None, who: int | None, element: str, *, to: str, remedy: str) -> None:
    """Whether ``who`` is another operator than the one who started a rollout; ``to`` says what only another may do.

    Raises:
        Forbidden: they are the same person, or nobody knows who it is.
    """
    if who is None:
        raise Forbidden(f"another operator has to {to}, and this is nobody's token", element=element, remedy=_LOG_IN)
    if who == starter:
        raise Forbidden(f"you started this rollout, and another person has to {to}", element=element, remedy=remedy)


def _asked(asked: AskedWave, *, first: bool) -> AskedWave:
    approval = asked.threshold.approval or first
    threshold = msgspec.structs.replace(asked.threshold, approval=approval, four_eyes=approval)
    return msgspec.structs.replace(asked, threshold=threshold)
