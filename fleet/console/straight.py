"""Words that reach what stands beside them: a page has none of them.

Unicode's overrides, embeddings and isolates (UAX 9) have the letters after them run backwards, so that a device could
make a sentence of the server's read otherwise. Marks that languages need (U+200E, U+200F) stay. Marks upon a letter are
drawn one above the other: hundreds of them would be a line through the whole page.
"""

import re
from typing import Final

_TURNS: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
_INSTEAD: Final = "\N{REPLACEMENT CHARACTER}"
# No language has more of them upon one letter: of Latin, Cyrillic, Hebrew, Arabic, Thai, Lao, Tibetan, and of symbols.
_MARK: Final = (
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u0f18-\u0f19\u0f71-\u0f84\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
_TOWER: Final = re.compile(f"({_MARK}{{5}}){_MARK}+")


def straight(text: bytes) -> bytes:
    """The same text, in UTF-8, with a sign in place of what turns it, and no towers of marks."""
    if text.isascii():
        return text
    words = text.decode(errors="surrogateescape")
    return _TOWER.sub(r"\1", _TURNS.sub(_INSTEAD, words)).encode(errors="surrogateescape")
