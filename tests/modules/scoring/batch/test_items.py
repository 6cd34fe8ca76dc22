"""Which inputs there are, in which order, and what is in each."""

import os

import pytest

from modules.errors import BadSettings
from modules.scoring.batch.items import Items


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b.json").write_bytes(b'{"x": 1}')
    (tmp_path / "a.jsonl").write_bytes(b'{"x": 1}\n\n  {"x": 2}')
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    (tmp_path / "z.PNG").write_bytes(b"\x89PNG\n")
    (tmp_path / ".hidden").write_bytes(b"no input")
    return tmp_path


def test_lines_and_files_in_the_order_of_their_names(folder):
    """Each line that is not empty is one input, and each other file; what begins with a dot is none."""
    items = Items(folder)
    found = [(one.name, one.line, one.read(), one.content_type) for one in (items[n] for n in range(len(items)))]
    assert found == [
        ("a.jsonl", 1, b'{"x": 1}', "application/json"),
        ("a.jsonl", 3, b'{"x": 2}', "application/json"),
        ("deep/b.json", 0, b'{"x": 1}', "application/json"),
        ("z.PNG", 0, b"\x89PNG\n", "image/png"),
    ]
    with pytest.raises(IndexError):
        items[4]


def test_a_pattern_takes_some(folder):
    """A prefix with a star takes what is below it."""
    items = Items(folder, "deep/*")
    assert [items[n].name for n in range(len(items))] == ["deep/b.json"]


def test_the_digest_tells_another_list(folder):
    """The same list has the same digest; a longer file, or another name, has not."""
    before = Items(folder).digest
    assert Items(folder).digest == before
    with (folder / "a.jsonl").open("ab") as file:
        file.write(b"\n{}")
    assert Items(folder).digest != before


def test_what_is_too_large_is_not_read(folder):
    """Neither a file nor a line: it would take the memory of the whole run, which would end before it said of what."""
    (folder / "huge.bin").touch()
    os.truncate(folder / "huge.bin", 1 << 40)
    with (folder / "huge.jsonl").open("wb") as file:
        file.write(b'"1"\n' + b" " * (3 << 20) + b'"2"\n"3"\n')
    items = Items(folder, "huge.*")
    assert [(one.name, one.line, one.offset) for one in (items[n] for n in range(len(items)))] == [
        ("huge.bin", 0, 0),
        ("huge.jsonl", 1, 0),
        ("huge.jsonl", 2, 4),
        ("huge.jsonl", 3, 4 + (3 << 20) + 4),
    ]
    for number in (0, 2):
        with pytest.raises(OSError, match="larger than the 1024 bytes that its memory bears"):
            items[number].read(1024)
    assert (items[1].read(1024), items[3].read(1024)) == (b'"1"', b'"3"')
    assert items[1].read(4) == b'"1"'


def test_what_cannot_be_read(folder):
    """A link that leads nowhere is an input that says so when it is read; a folder that is not there ends it all."""
    (folder / "c.json").symlink_to(folder / "nowhere")
    items = Items(folder, "c.json")
    with pytest.raises(FileNotFoundError):
        items[0].read()
    with pytest.raises(BadSettings, match="cannot be read"):
        Items(folder / "nowhere")


def test_names_that_are_no_text_are_inputs(folder):
    """A name of bytes that are no UTF-8 is read, and shown as text."""
    (folder / os.fsdecode(b"\xff.json")).write_bytes(b"{}")
    items = Items(folder, "*.json")
    assert [items[n].read() for n in range(len(items))] == [b'{"x": 1}', b"{}"]
    assert items[1].name == "�.json"
