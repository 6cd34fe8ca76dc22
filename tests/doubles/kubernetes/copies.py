"""Copies of JSON documents, by way of their bytes: a tenth of the time of copy.deepcopy, which is most of a step's."""

from typing import TypeVar

import msgspec

Document = TypeVar("Document")


def copied(document: Document) -> Document:
    return msgspec.json.decode(msgspec.json.encode(document))
