"""Which of a module's runtimes this host uses, with which providers and devices: decided once, at *fitted*."""

from agent.slots import Chosen, Wanted
from hardware import container, providers
from modules.errors import NeedsOperator, Unfit
from modules.manifest import Manifest
from modules.needs import HostFacts, fits


def choose(manifest: Manifest, facts: HostFacts, wanted: Wanted) -> Chosen:
    """The first of its runtimes, in the publisher's order, that this host can run.

    Space is left out: it is planned before the first byte is fetched, where its want is waited out and not final.

    Raises:
        Unfit: none of them fits, or the host offers no provider that the runtime takes; with every reason.
    """
    fit = fits(manifest, facts, engine=wanted.engine, disk=False)
    if fit.runtime is None or not fit:
        raise Unfit("; ".join(fit.unmet), element=wanted.module)
    return Chosen(
        runtime=manifest.runtimes.index(fit.runtime),
        providers=providers.choose(facts, fit.runtime),
        access=container.access(facts, fit.runtime),
    )


def check_there(chosen: Chosen, manifest: Manifest, facts: HostFacts) -> None:
    """See that the accelerator is there just now, before a start that would else fail for the want of it.

    Raises:
        NeedsOperator: it is not; that says nothing of the module.
    """
    kind = manifest.runtimes[chosen.runtime].accelerator
    if kind not in {"cpu", *(one.kind for one in facts.accelerators)}:
        raise NeedsOperator(
            f"the {kind} accelerator that it was fitted to is not there", remedy="see edgefleet-agent doctor"
        )
