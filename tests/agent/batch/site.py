"""A device that serves one module and takes batch jobs, with a simulated engine; a test takes each look itself."""

from contextlib import asynccontextmanager

from agent.answering import Told
from agent.batch import kept
from agent.batch.duty import Duty
from agent.settings import Settings
from hardware.system import System
from modules.protocol.batch import BatchOrder
from tests.agent.secret_bench import SecretBench
from tests.agent.workbench import Bench, bench
from tests.doubles.release import make

MARK = "0f" * 8
INSTANCE = f"batch.{MARK}"
DONE = '{"state":"finished","items":4,"answered":3,"set_aside":1,"seconds":1.5}\n'
HALF = '{"state":"running","items":4,"answered":2,"set_aside":0,"seconds":1.5}\n'


class Site:
    """``device`` with its duty, and an ``order`` for the module that it serves; ``quiet`` lets it become idle."""

    def __init__(self, device, module):
        self.device = device
        self.order = BatchOrder(mark=MARK, name="night", module=module.digest, inputs="pictures", outputs="answers")
        self.requests = 0
        #: what happens while a look asks the gateway
        self.meanwhile = lambda: None
        for name in ("state", "pictures", "answers", "machine/proc"):
            (device.folder / "site" / name).mkdir(parents=True, exist_ok=True)
        here = device.folder / "site"
        self.here = here
        (here / "machine/proc/meminfo").write_text("MemAvailable: 9000000 kB\n")
        self.settings = Settings(
            state=str(here / "state"),
            runtime=str(here / "state"),
            batch_inputs=(f"pictures={here}/pictures",),
            batch_outputs=(f"answers={here}/answers",),
            batch_idle_s=60.0,
            disk_reserve=1,
        )
        self.begin()

    def begin(self):
        """An agent that has just started."""
        hands = self.device.executor._hands
        self.duty = Duty(
            self.settings,
            self.device.clock,
            hands=hands,
            gateway=self._told,
            wake=lambda: None,
            system=System(self.here / "machine"),
        )

    async def _told(self):
        self.meanwhile()
        counts = {"counts": {"main-1": {"requests": self.requests}}}
        return Told(1, [{"slot": "main"} | counts])

    async def turns(self, count=1):
        for _ in range(count):
            await self.duty.turn()

    async def quiet(self):
        """Whatever has ended is looked at, then that nobody asks, and a minute later that nobody did."""
        await self.turns(2)
        self.device.clock.advance(61)
        await self.turns()

    @property
    def jobs(self):
        return kept.read(self.device.store)

    @property
    def job(self):
        return self.jobs[-1]

    def runs(self, instance=INSTANCE):
        found = self.device.engine._instances.get(instance)
        return found is not None and found.exit_code is None

    def ends(self, log="", *, code=0, oom=False):
        """The program ends by itself."""
        self.device.engine.said[INSTANCE] = log
        self.device.engine.crash(INSTANCE, code=code, oom=oom)


@asynccontextmanager
async def serving(folder, module=None, **secrets):
    """Its loop stands still, so that nothing happens beside a test's own looks."""
    async with bench(folder, SecretBench if secrets else Bench) as device:
        wanted = module or make()
        if secrets:
            await device.settled(wanted, **{name: device.sealed(value, 1) for name, value in secrets.items()})
        else:
            await device.committed(wanted)
        await device.stop()
        yield Site(device, wanted)
