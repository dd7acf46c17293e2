"""Metrics of actor systems for Prometheus, and a dashboard and alert rules that use them.

`PapyraCollector` reads a system's numbers when Prometheus asks. `PapyraTimings` measures a sample of the
messages. The plugin ``prometheus`` is both: set ``PAPYRA_INSTRUMENTS=prometheus``.
"""

from papyra_contrib._timings.timings import PapyraTimings
from papyra_contrib.prometheus._app import metrics_app
from papyra_contrib.prometheus._collector import PapyraCollector
from papyra_contrib.prometheus._plugin import PrometheusInstrument

__all__ = ["PapyraCollector", "PapyraTimings", "PrometheusInstrument", "metrics_app"]
