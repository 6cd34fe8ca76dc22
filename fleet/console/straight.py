"""Words that turn what stands beside them: a page has none of them.

Unicode's overrides, embeddings and isolates (UAX 9) have the letters after them run backwards, so that a device could
make a sentence of the server's read otherwise. Marks that languages need (U+200E, U+200F) stay.
"""

import re
from typing import Final

# U+202A to U+202E and U+2066 to U+2069; the server's JSON has no escapes for them.
_TURNS: Final = re.compile(rb"\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]")
_INSTEAD: Final = "\N{REPLACEMENT CHARACTER}".encode()


def straight(text: bytes) -> bytes:
    """The same text, in UTF-8, with a sign in place of each."""
    return _TURNS.sub(_INSTEAD, text)
