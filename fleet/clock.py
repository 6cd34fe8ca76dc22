"""Where the time comes from: a function that tests replace, never a sleep."""

from collections.abc import Callable

Clock = Callable[[], float]
