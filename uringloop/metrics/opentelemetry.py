"""`LoopInstruments`: the numbers of loops as observable instruments of OpenTelemetry."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter

from ..loop import EventLoop
from .source import BOUNDS_S, GROWING, HISTOGRAMS, MOMENTARY, SLOWEST, LoopSource, Metric, cumulative

_UNITS = {"seconds": "s", "bytes": "By", "": "1"}
_LIMITS = (*BOUNDS_S, float("inf"))


class LoopInstruments(LoopSource):
    """Observes loops; their metrics go where the meter provider sends them.

    Each name begins with "uringloop.", and has the attributes "loop", the name given here, and "backend".  As there is
    no observable histogram, one is two counters.  "uringloop.lag.bucket" has the attribute "le", the upper bound in
    seconds of the durations that it counts; "uringloop.lag.sum" is their sum.

    Args:
        loops: as of `LoopSource`.
        meter_provider: the provider of the meter, None for the global one.
    """

    def __init__(self, loops: Mapping[str, EventLoop], meter_provider: MeterProvider | None = None) -> None:
        super().__init__(loops)
        meter = get_meter("uringloop", meter_provider=meter_provider)
        for metric in GROWING:
            self._observe(meter.create_observable_counter, metric, self._number(metric))
        for metric in MOMENTARY:
            self._observe(meter.create_observable_up_down_counter, metric, self._number(metric))
        for key, metric in HISTOGRAMS.items():
            self._observe_histogram(meter, key, metric)
        self._observe(meter.create_observable_gauge, SLOWEST, self._slowest)

    @staticmethod
    def _observe(
        create: Callable[..., Any],
        metric: Metric,
        callback: Callable[[CallbackOptions], Iterable[Observation]],
        suffix: str = "",
        unit: str | None = None,
    ) -> None:
        create(
            f"uringloop.{metric.name}{suffix}",
            callbacks=[callback],
            unit=_UNITS[metric.unit] if unit is None else unit,
            description=metric.description,
        )

    def _observe_histogram(self, meter: Meter, key: str, metric: Metric) -> None:
        def buckets(options: CallbackOptions) -> Iterator[Observation]:
            for attributes, numbers in self._each():
                for limit, count in zip(_LIMITS, cumulative(numbers[key]), strict=True):
                    yield Observation(count, {**attributes, "le": limit})

        def sums(options: CallbackOptions) -> Iterator[Observation]:
            for attributes, numbers in self._each():
                yield Observation(numbers[key]["sum_ns"] / 1e9, attributes)

        self._observe(meter.create_observable_counter, metric, buckets, ".bucket", "1")
        self._observe(meter.create_observable_counter, metric, sums, ".sum")

    def _number(self, metric: Metric) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(options: CallbackOptions) -> Iterator[Observation]:
            for attributes, numbers in self._each():
                yield Observation(metric.value(numbers), attributes)

        return observe

    def _slowest(self, options: CallbackOptions) -> Iterator[Observation]:
        for attributes, numbers in self._each():
            for slow in numbers["slowest"]:
                yield Observation(slow["longest_ns"] / 1e9, {**attributes, "callback": slow["name"]})

    def _each(self) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
        for loop, numbers in self.read():
            yield {"loop": loop, "backend": numbers["backend"]}, numbers
