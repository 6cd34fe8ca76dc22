"""Rows of the device's store, from the values that a test is about."""

from agent.slots import Slot, Target


def slot_row(wanted, slot="main", /, **values):
    """A slot that was ordered ``wanted``; ``values`` are fields of the slot, of its target or of its upkeep."""
    return Slot(slot=slot, target=Target(wanted=wanted)).with_(**values)
