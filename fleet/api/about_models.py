"""The rooms of the API that are about models: what is signed, and what is not yet."""

from typing import Final

from fastapi import APIRouter

from fleet.api import graphs, modules, profiles, uploads

ROUTERS: Final[tuple[APIRouter, ...]] = (modules.router, graphs.router, profiles.router, uploads.router)
