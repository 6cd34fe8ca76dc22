"""A model by its name and version alone, as Azure ML writes it: whichever team has it."""

from fleet.client import arguments
from fleet.client.api import Fleet
from modules.errors import Invalid
from modules.names import ModuleRef


def by_id(model_id: str, fleet: Fleet) -> ModuleRef:
    """The module that ``name:version`` means, where one team alone has it.

    Raises:
        Invalid: no team has it, or several have.
        EdgefleetError: as :class:`Fleet`.
    """
    if "/" in model_id:
        return arguments.module_ref(model_id)
    wanted = str(arguments.module_ref(f"team/{model_id}")).removeprefix("team/")
    found = [one.ref for one in fleet.modules() if one.ref.partition("/")[2] == wanted]
    if len(found) != 1:
        raise Invalid(
            f"several teams have it: {', '.join(found)}" if found else "the fleet has no such model",
            element=f"--model-id {model_id}",
            remedy="name it with its team: team/name:version (edgefleet models list)",
        )
    return ModuleRef.parse(found[0])
