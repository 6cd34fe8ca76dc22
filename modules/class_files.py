"""Files of a module that name what it tells apart, for people who look at answers; nothing that serves reads them."""

from typing import Final

#: The first that a module has counts.
NAMES: Final = (
    *("labels.txt", "classes.txt", "names.txt", "labels.json", "classes.json", "id2label.json"),
    "config.json",
)
#: bytes; a longer one is not read
LIMIT: Final = 512 << 10
