"""Run this process in the mode that TEST_MODE names.

Every Python that the tests start imports this module, because ``tests/conftest.py`` puts its folder into
PYTHONPATH.

debug
    The debug mode of asyncio; Python's development mode is on by its own variable.
uvloop
    Its event loops in place of asyncio's.
eager
    Tasks of asyncio begin at once, as programs on Python 3.12 and newer may have them.
"""

import os

match os.environ.get("TEST_MODE", ""):
    case "":
        pass
    case "debug":
        import logging

        # It warns of each slow step, amid what a test expects in a log or on stderr.
        logging.getLogger("asyncio").setLevel(logging.ERROR)
    case "eager":
        import asyncio

        class _EagerTasks(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self) -> asyncio.AbstractEventLoop:
                loop = super().new_event_loop()
                loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]  # since 3.12
                return loop

        asyncio.set_event_loop_policy(_EagerTasks())
    case "uvloop":
        import asyncio

        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    case other:
        raise ValueError(f"TEST_MODE is {other!r}, not debug, eager or uvloop")
