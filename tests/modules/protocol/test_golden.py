"""Golden files: what devices in the field send today stays readable, byte for byte."""

import importlib
import pkgutil
from pathlib import Path

import msgspec
import pytest

from modules import protocol
from modules.errors import Invalid
from tests.modules.protocol.examples import EXAMPLES

GOLDEN = Path(__file__).parents[2] / "golden"
# Documents that have got optional fields since their file was made; older readers skip those.
GROWN = {"ack-1.json", "command-1.json", "facts-1.json", "join-1.json", "report-1.json", "status-1.json"}


def test_every_file_is_read():
    """Each golden file has its example and each example its file."""
    assert sorted(EXAMPLES) == sorted(path.name for path in GOLDEN.iterdir())


def test_every_versioned_document_has_a_golden_file():
    """A document of modules/protocol with a format has an example in that very format."""
    formats = set()
    for found in pkgutil.iter_modules(protocol.__path__, protocol.__name__ + "."):
        for value in vars(importlib.import_module(found.name)).values():
            if isinstance(value, type) and issubclass(value, msgspec.Struct):
                formats |= {
                    field.default for field in msgspec.structs.fields(value) if field.name == "format" and field.default
                }

    assert formats <= {getattr(example.document, "format", None) for example in EXAMPLES.values()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_old_bytes_mean_the_same(name):
    """A document of the field decodes to what it meant, though fields have been added since."""
    example, data = EXAMPLES[name], (GOLDEN / name).read_bytes()

    assert example.decode(data) == example.document
    assert example.decode(example.encode(example.document)) == example.document


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in GROWN])
def test_nothing_is_written_otherwise(name):
    """What we write of a document that has not grown is, byte for byte, what older readers were made for."""
    example, data = EXAMPLES[name], (GOLDEN / name).read_bytes()

    assert example.encode(example.document) == data


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_prefix_is_a_document(name):
    """A document that was cut anywhere is refused, never half read."""
    example, data = EXAMPLES[name], (GOLDEN / name).read_bytes()
    for end in range(0, len(data), max(1, len(data) // 50)):
        with pytest.raises(Invalid):
            example.decode(data[:end])


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if hasattr(example.document, "format")])
def test_another_format_is_refused(name):
    """A document that says it is of another version is not read as this one."""
    example, data = EXAMPLES[name], (GOLDEN / name).read_bytes()
    with pytest.raises(Invalid):
        example.decode(data.replace(b'/1"', b'/2"', 1))
