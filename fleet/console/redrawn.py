"""A part of a live page that is drawn again only when what it shows has changed: nothing moves under the hand."""

from collections.abc import Callable
from typing import Any

from nicegui import ui


class Redrawn:
    """A place, and what draws it; the place is made where this is."""

    def __init__(self, draw: Callable[[Any], None], classes: str = "ef-rows") -> None:
        self._draw, self._shown = draw, object()
        self._place = ui.element("div").classes(classes)

    def show(self, data: Any) -> None:
        if data != self._shown:
            self._shown = data
            self._place.clear()
            with self._place:
                self._draw(data)
