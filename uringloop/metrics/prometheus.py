"""`LoopCollector`: the numbers of loops as metrics of prometheus_client."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from .source import BOUNDS_S, GROWING, HISTOGRAMS, MOMENTARY, SLOWEST, LoopSource, cumulative

_LABELS = ("loop", "backend")
_LIMITS = (*map(repr, BOUNDS_S), "+Inf")


class LoopCollector(LoopSource, Collector):
    """Collects the metrics of loops; `prometheus_client.REGISTRY.register` takes it.

    Each metric's name begins with "uringloop_", and has the labels "loop", the name given here, and "backend".

    Args:
        loops: as of `LoopSource`.
    """

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without samples, so that a registry need not collect for their names."""
        yield from self._families().values()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with the numbers of now; called for each scrape, in any thread."""
        families = self._families()
        for loop, numbers in self.read():
            labels = [loop, numbers["backend"]]
            for metric in (*GROWING, *MOMENTARY):
                families[metric.name].add_metric(labels, metric.value(numbers))
            for key, metric in HISTOGRAMS.items():
                buckets = list(zip(_LIMITS, cumulative(numbers[key]), strict=True))
                families[metric.name].add_metric(labels, buckets, sum_value=numbers[key]["sum_ns"] / 1e9)
            for slow in numbers["slowest"]:
                families[SLOWEST.name].add_metric([*labels, slow["name"]], slow["longest_ns"] / 1e9)
        yield from families.values()

    @staticmethod
    def _families() -> dict[str, Any]:
        kinds: Any = (
            (CounterMetricFamily, GROWING, _LABELS),
            (GaugeMetricFamily, MOMENTARY, _LABELS),
            (HistogramMetricFamily, HISTOGRAMS.values(), _LABELS),
            (GaugeMetricFamily, (SLOWEST,), (*_LABELS, "callback")),
        )
        return {
            metric.name: kind(f"uringloop_{metric.name}", metric.description, labels=labels, unit=metric.unit)
            for kind, metrics, labels in kinds
            for metric in metrics
        }
