"""Whatever a person can name stands in the docs."""

import importlib
import re

import pytest

from tests.house import named, reference
from tests.house.tree import ROOT

KINDS = [
    named.error_codes,
    named.topics,
    named.settings,
    named.commands,
    named.routes,
    named.phases,
    named.manifest_fields,
    named.events,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_is_in_the_docs(kind):
    """Every error code, topic, setting, command, route, phase, manifest field and event appears in README or docs/."""
    text = named.docs()

    missing = sorted(name for name in kind() if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))

    assert missing == []


@pytest.mark.parametrize("page", reference.pages())
def test_what_is_made_from_the_code_is_up_to_date(page):
    """A page's commands, settings and routes are those of the code; ``python -m tests.house.reference`` renews them."""
    text = reference.pages()[page]

    assert text == reference.renewed(text)


@pytest.mark.parametrize(("module", "name"), named.imports())
def test_imports_that_the_docs_show_work(module, name):
    """What the docs tell people to import is there."""
    assert hasattr(importlib.import_module(module), name)


def test_links_lead_somewhere():
    """Every relative link in the public pages leads to a file of this repository."""
    lost = [f"{page}: {link}" for page, link in named.links() if not (ROOT / page).parent.joinpath(link).exists()]

    assert lost == []
