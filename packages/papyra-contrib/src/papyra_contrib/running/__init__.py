"""Run a system as a service: signals, an orderly stop in phases, and an exit status.

`run` is the whole of a service's ``__main__``; ``papyra run module:main`` does the same without it. A program
with an event loop of its own awaits `run_until_signal`. Under a web server, call `Shutdown.run` at the end of
its lifespan.
"""

from papyra_contrib.running._run import run, run_until_signal
from papyra_contrib.running._shutdown import CLOSE, DRAIN, UNBIND, Phase, Shutdown

__all__ = ["CLOSE", "DRAIN", "UNBIND", "Phase", "Shutdown", "run", "run_until_signal"]
