"""The rooms of the API that are about models: what is signed, what is not yet, and how each answers where it serves."""

from types import ModuleType
from typing import Final

from fleet.api import graphs, modules, profiles, tries, uploads

ROOMS: Final[tuple[ModuleType, ...]] = (modules, graphs, profiles, tries, uploads)
