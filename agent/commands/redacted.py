"""Takes secrets out of what leaves the device for a diagnosis.

What goes into the bundle is chosen, and none of it is a secret by itself. This is the second look, for what a setting,
an address or an error's words may carry along: what is known as a secret here is replaced wherever it stands, and so is
what has a secret's form.
"""

import base64
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from agent.identity import KEY, NEXT, NEXT_KEY, PAIR
from agent.sealing_key import KEY as SEALING_KEY

GONE: Final = "[left out]"
_WORDS: Final = r"(?:pass(?:wor[dt]|phrase|wd)?|secret|token|credential|api[_-]?key|private[_-]?key|auth\w*|bearer|key)"
_NAMED: Final = re.compile(rf"(?i)(?<![a-z]){_WORDS}(?:$|[^a-z])|(?:_|-){_WORDS}$|^{_WORDS}s?$")
_FORMS: Final = (
    re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    # user:password@ in an address, and what follows a question mark
    re.compile(r"(?<=://)[^/\s\"'@]+(?=@)"),
    re.compile(r"(?<=\?)[^\s\"'|]*=[^\s\"'|]*"),
    re.compile(rf"(?i)(?<={'bearer '})[\w.~+/=-]+"),
    re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+"),
)
_SAID: Final = re.compile(rf"(?i)\b((?:[\w-]*[_-])?{_WORDS}(?:[_-][\w-]*)?[\"']?\s*[=:]\s*[\"']?)([^\s\"',;|]+)")
# Shorter ones would take half of all words along.
_SHORTEST: Final = 6
_LARGEST: Final = 64 << 10
_MOST_FILES: Final = 200


class Redactor:
    """``text`` is what may leave. It knows the device's keys, the environment's secrets, and those of given files."""

    def __init__(self, identity: Path, *, files: Iterable[Path] = (), environ: Mapping[str, str] = os.environ) -> None:
        known = {value for name, value in environ.items() if _NAMED.search(name)}
        for path in (*(identity / name for name in (KEY, PAIR, NEXT, NEXT_KEY)), *files):
            known |= _lines(path)
        known |= _written(identity / SEALING_KEY)
        self._known = sorted((one for one in known if len(one) >= _SHORTEST), key=len, reverse=True)

    def document(self, content: Any) -> Any:
        """A document of JSON: each text in it, and what stands under a secret's name."""
        if isinstance(content, dict):
            return {
                self.text(str(name)): GONE
                if isinstance(one, str) and one and names_a_secret(str(name))
                else self.document(one)
                for name, one in content.items()
            }
        if isinstance(content, list | tuple):
            return [self.document(one) for one in content]
        return self.text(content) if isinstance(content, str) else content

    def text(self, text: str) -> str:
        for secret in self._known:
            text = text.replace(secret, GONE)
        for form in _FORMS:
            text = form.sub(GONE, text)
        return _SAID.sub(rf"\1{GONE}", text)


def names_a_secret(name: str) -> bool:
    """Whether a setting of this name may hold one."""
    return _NAMED.search(name) is not None


def secret_files(state: Path, runtime: Path) -> list[Path]:
    """Files of secrets that modules were given on this device, wherever an agent keeps them."""
    found = []
    for folder in (state, runtime):
        for place in folder.glob("*secret*"):
            paths = place.rglob("*") if place.is_dir() else [place]
            found += [path for path in paths if path.is_file() and not path.is_symlink()]
    return found[:_MOST_FILES]


def _written(path: Path) -> set[str]:
    """Bytes that are no text, as somebody may have written them."""
    try:
        data = path.read_bytes()
    except OSError:
        return set()
    return {data.hex(), base64.b64encode(data).decode().rstrip("=")}


def _lines(path: Path) -> set[str]:
    try:
        with path.open("rb") as stream:
            text = stream.read(_LARGEST).decode(errors="replace")
    except OSError:
        return set()
    return {text.strip(), *(line.strip() for line in text.splitlines() if not line.startswith("-----"))}
