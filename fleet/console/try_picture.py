"""A picture or any file for a module: sent as it is, or as the numbers that its graph takes, seen before it is sent.

The browser decodes and resizes (``static/picture.js``), so no picture of a stranger is decoded on the server, which
holds the fleet's keys.
"""

import base64
import json
import math
from collections.abc import Callable
from typing import Any, Final

from nicegui import events, run, ui

from fleet.console import assets, parts, picture_tensor, visitors
from fleet.console.module_parts import link_of
from fleet.console.picture_tensor import LAYOUTS, MOST_SIDE, SCALES, TYPES, Form
from fleet.console.try_answer import PICTURES
from fleet.console.visit import Said, Visit
from modules.errors import Invalid

MOST: Final = visitors.LARGEST
_RAW: Final = "application/octet-stream"
_JSON: Final = "application/json"
_NOT_GRAPH: Final = "data"
# Of one message of the page's connection, which may have a million bytes, in base64.
_PART: Final = 480_000
_WITHIN_S: Final = 20.0
_FITS: Final = {
    "stretch": "stretched to the size",
    "crop": "cut to the size, from the middle",
    "pad": "whole, with black around it",
}
_ITSELF: Final = "The module takes pictures itself: it brings them to its size."
_UNKNOWN: Final = "The module's document does not say how it takes pictures: say it here, or send the file as it is."
_AS_FILE: Final = "Send the file as it is: this module takes pictures itself."
_SAYS_HOW: Final = "A module that says in its manifest how it takes pictures (serve.image) is sent the file."
_LATE: Final = "The browser did not answer in time: drop the picture again."
_NO_PICTURE: Final = "What its graph takes does not look like one picture:"
_SUGGESTED: Final = "Its graph takes numbers, and no files. The form below is what their shape suggests: look at it."


class Picture:
    """What is dropped, and how it is sent; made where this is. ``tell`` is called when what is sent has changed."""

    def __init__(self, visit: Visit, tell: Callable[[], None]) -> None:
        self._visit, self._tell = visit, tell
        self._file: tuple[str, str, bytes] | None = None
        self._forms: dict[str, tuple[str, Form, str, bool]] = {}
        self._input, self._raw, self._itself = _NOT_GRAPH, False, False
        self._made: bytes | None = None
        self._busy = self._stale = False
        ui.add_body_html(assets.script("picture.js"))
        upload = ui.upload(auto_upload=True, max_files=1, max_file_size=MOST, on_upload=self._dropped)
        upload.props('flat bordered accept="*/*"').classes("ef-wide-field")
        upload.add_slot("header", _CHOOSE)
        upload.on("rejected", lambda: ui.notify(f"a file has at most {parts.size(MOST)}", type="negative"))
        self._upload = upload
        self._about = ui.label("Nothing was dropped yet.").classes("ef-soft")
        self._how = ui.toggle({"file": "The file as it is", "numbers": "As numbers"}, value="file").props(
            "no-caps unelevated padding='4px 14px'"
        )
        self._how.props["aria-label"] = "How it is sent"
        with ui.column().classes("ef-rows") as self._as_file:
            self._seen = ui.element("img").classes("ef-dropped").props('alt="What was dropped"')
            self._kind = ui.input("Media type", value="image/jpeg").props("outlined dense").classes("ef-wide-field")
        with ui.column().classes("ef-rows") as self._as_numbers:
            self._hint = ui.label(_UNKNOWN).classes("ef-soft")
            self._draw_fields()
            with ui.row().classes("ef-line").style("flex-wrap: nowrap"):
                self._canvas = ui.element("canvas").classes("ef-pixels").props("role=img")
                self._canvas.props["aria-label"] = "The picture as it is sent"
                with ui.column().classes("ef-rows ef-words"):
                    self._said = ui.label("").classes("ef-words").props('role="status"')
                    self._save = ui.button("Save what is sent", icon="download", on_click=self._saved).props(
                        "flat dense no-caps"
                    )
        self._how.on_value_change(self._redraw)
        self._kind.on_value_change(tell)
        self._show()

    def _draw_fields(self) -> None:
        def chosen(label: str, options: Any, value: Any) -> Any:
            return ui.select(options, value=value, label=label).props("outlined dense")

        def side(label: str) -> Any:
            made = ui.number(label, value=224, min=1, max=MOST_SIDE, precision=0)
            return made.props("outlined dense debounce=400")

        with ui.element("div").classes("ef-fields"):
            self._fields = {
                "layout": chosen("Order", LAYOUTS, "NCHW"),
                "channels": chosen("Colours", ["RGB", "BGR", "grey"], "RGB"),
                "width": side("Width"),
                "height": side("Height"),
                "fit": chosen("Other proportions", _FITS, "stretch"),
                "scale": chosen("Values", list(SCALES), "0 to 1"),
                "type": chosen("Type", list(TYPES), "float32"),
                "negative": ui.switch("Negative (dark is light)"),
            }
        for one in self._fields.values():
            one.on_value_change(self._redraw)

    # What it is for

    async def aim(self, module: str) -> None:
        """It goes to another module, which takes it in its own way."""
        if module not in self._forms:
            self._forms[module] = await self._learn(module)
        self._input, form, hint, self._itself = self._forms[module]
        self._raw = form.raw
        self._hint.set_text(hint)
        for name, field in self._fields.items():
            if hasattr(form, name):
                field.value = getattr(form, name)
        self._how.value = "file" if self._itself or not self._is_picture or self._input == _NOT_GRAPH else "numbers"
        await self._redraw()

    async def _learn(self, module: str) -> tuple[str, Form, str, bool]:
        """The name of its input, the form that it takes, what is said of that, and whether it takes pictures itself."""
        unknown = (_NOT_GRAPH, Form(), _UNKNOWN, False)
        if not self._visit.may("module:read"):
            return unknown
        place = link_of(module).removeprefix("/")
        try:
            serve = (await self._visit.get(place))["manifest"]["serve"]
            if serve["kind"] != "onnx":
                return unknown
            if serve.get("image"):
                return _NOT_GRAPH, Form(), _ITSELF, True
            graph = (await self._visit.get(f"{place}/graph"))["graph"]
        except Said:
            return unknown
        inputs = graph["inputs"] if graph else []
        if len(inputs) == 1 and (form := picture_tensor.guess(inputs[0]["type"], inputs[0]["shape"])):
            return inputs[0]["name"], form, _SUGGESTED, False
        takes = "; ".join(f"{one['name']} {one['type']} {one['shape']}" for one in inputs)
        return _NOT_GRAPH, Form(), f"{_NO_PICTURE} {takes}"[: parts.WORDS] if takes else _UNKNOWN, False

    # What is dropped

    @property
    def _is_picture(self) -> bool:
        return self._file is not None and self._file[1] in PICTURES

    async def _dropped(self, event: events.UploadEventArguments) -> None:
        if event.file.size() > MOST:
            ui.notify(f"a file has at most {parts.size(MOST)}", type="negative")
            return
        data = await event.file.read()
        self._file = (event.file.name[:200], event.file.content_type or _RAW, data)
        self._kind.set_value(self._file[1])
        self._about.set_text(f"{self._file[0]}: {parts.size(len(data))}")
        self._upload.reset()
        if self._is_picture:
            self._seen.props["src"] = f"data:{self._file[1]};base64,{base64.b64encode(data).decode()}"
            self._seen.update()
        self._how.value = "numbers" if self._is_picture and self._input != _NOT_GRAPH else "file"
        await self._redraw()

    def _show(self) -> None:
        numbers = self._how.value == "numbers" and self._is_picture
        self._how.set_visibility(self._is_picture)
        self._as_numbers.set_visibility(numbers)
        self._kind.set_visibility(not numbers)
        self._seen.set_visibility(self._is_picture and not numbers)
        self._save.set_visibility(self._made is not None)

    @property
    def _form(self) -> Form:
        given = {name: field.value for name, field in self._fields.items()}
        width, height = (min(max(int(given[name] or 1), 1), MOST_SIDE) for name in ("width", "height"))
        return Form(given["layout"], given["channels"], width, height, given["scale"], given["type"], self._raw)

    async def _redraw(self) -> None:
        """Draw it as it is sent, and make that; what changes meanwhile is drawn after it."""
        self._stale, self._made = True, None
        if self._busy:
            return
        self._busy = True
        try:
            while self._stale:
                self._stale = False
                await self._draw()
        finally:
            self._busy = False

    async def _draw(self) -> None:
        self._show()
        if self._how.value == "numbers" and self._is_picture:
            self._said.set_text("...")
            form = self._form
            problem, pixels = await self._pixels(form)
            made = None if problem else await run.io_bound(_body, pixels, form, self._input)
            if self._stale:
                return
            self._made = made
            self._said.set_text(
                problem[: parts.WORDS]
                if made is None
                else f"{picture_tensor.told(pixels, form)}: {parts.size(len(made))}."
            )
            self._show()
        self._tell()

    async def _pixels(self, form: Form) -> tuple[str, bytes]:
        """What is wrong, or the values of the picture as the browser has brought it to its size."""
        given = {
            "width": form.width,
            "height": form.height,
            "fit": self._fields["fit"].value,
            "grey": form.channels == "grey",
            "negative": self._fields["negative"].value,
            "length": len(self._seen.props["src"]),
        }
        words = ", ".join(json.dumps(one) for one in (self._seen.html_id, self._canvas.html_id, given))
        whole, found = form.width * form.height * form.depth, b""
        try:
            problem = await ui.run_javascript(f"return await edgefleetPicture.draw({words})", timeout=_WITHIN_S)
            if problem != "":
                return str(problem or "the page was closed"), b""
            while len(found) < whole:
                asked = f"return edgefleetPicture.part({len(found)}, {_PART})"
                if not (part := await ui.run_javascript(asked, timeout=_WITHIN_S)):
                    break
                found += base64.b64decode(str(part))
        except (TimeoutError, ValueError):
            found = b""
        return ("" if len(found) == whole else _LATE), found

    # What is sent

    def body(self) -> tuple[bytes, str]:
        """What is sent, and its media type.

        Raises:
            Invalid: there is nothing yet.
        """
        if self._file is None:
            raise Invalid("there is no file yet", element="Picture or file", remedy="drop one")
        if self._how.value == "file":
            return self._file[2], self.kind
        if self._made is None:
            raise Invalid("the numbers are not there yet", element="Picture or file", remedy="wait until they are")
        return self._made, self.kind

    @property
    def length(self) -> int:
        """Bytes of what is sent; before it is there at least so many, as far as the module's graph says."""
        if self._file is not None and self._how.value == "file":
            return len(self._file[2])
        if self._made is not None:
            return len(self._made)
        if self._input == _NOT_GRAPH:
            return 0
        # In JSON a value has a digit, and a comma or bracket beside it.
        return self._form.length if self._raw else 2 * math.prod(self._form.shape)

    @property
    def smaller(self) -> str:
        """How it would be less."""
        if self._file is not None and self._how.value == "file":
            return "Drop a smaller one."
        return _AS_FILE if self._itself else _SAYS_HOW

    @property
    def kind(self) -> str:
        """Its media type."""
        if self._file is not None and self._how.value == "file":
            return self._kind.value or self._file[1]
        return _RAW if self._raw else _JSON

    @property
    def command(self) -> str:
        """What says the same on the command line; of numbers, once they are saved."""
        name, kind = self._file[0] if self._file else "FILE", self._kind.value or ""
        if self._file is not None and self._how.value == "numbers":
            name, kind = self._saved_as, self.kind
        return f" --input {parts.quoted(name)} --content-type {parts.quoted(kind)}"

    @property
    def _saved_as(self) -> str:
        return "picture.bin" if self._raw else "picture.json"

    def _saved(self) -> None:
        if self._made is not None:
            ui.download.content(self._made, self._saved_as)


def _body(pixels: bytes, form: Form, name: str) -> bytes:
    return picture_tensor.packed(pixels, form) if form.raw else picture_tensor.as_json(pixels, form, name)


# Instead of the library's own, whose button has no name.
_CHOOSE: Final = """
<div class="row no-wrap items-center q-pa-sm">
  <q-btn flat no-caps icon="add" label="Choose a file" @click="props.pickFiles" />
  <label class="ef-unseen">File<q-uploader-add-trigger /></label>
  <span class="q-ml-sm">or drop it here</span>
</div>"""
