"""What this machine can compute with, and what that means for ONNX Runtime and for a container.

``probe`` looks, through ``system`` and nothing else; ``providers`` and ``container`` conclude, without looking.
``python -m hardware`` shows what was found. A new kind of accelerator is a file in ``probes``, a line here, and a host
in the tests.
"""

from hardware.probes import cpu, nvidia

PROBES = (cpu, nvidia)
