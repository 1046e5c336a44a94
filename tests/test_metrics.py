"""`uringloop.metrics`: prometheus_client and OpenTelemetry get the loops' numbers, each through its own API."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import uringloop
from tests.children import script
from tests.compat.libraries.needs import library

TURNS = 10


def ran() -> uringloop.EventLoop:
    """A loop that measures, and has turned a few times."""
    loop = uringloop.EventLoop()
    loop.start_measuring(slow_ns=0)

    async def main() -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    return loop


@pytest.fixture
def loop() -> Iterator[uringloop.EventLoop]:
    loop = ran()
    yield loop
    loop.close()


def test_prometheus(loop: uringloop.EventLoop) -> None:
    library("prometheus_client")
    from prometheus_client import CollectorRegistry, generate_latest

    from uringloop.metrics.prometheus import LoopCollector

    other = uringloop.EventLoop(backend="epoll")
    assert other.statistics()["measured"] is None
    collector = LoopCollector({"main": loop, "other": other})
    assert other.statistics()["measured"] is not None
    registry = CollectorRegistry()
    registry.register(collector)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(LoopCollector({}))
    labels = {"loop": "main", "backend": loop.backend}

    def sample(name: str, **more: str) -> float:
        value = registry.get_sample_value(f"uringloop_{name}", {**labels, **more})
        assert value is not None
        return value

    measured: Any = loop.statistics()["measured"]
    assert sample("callbacks_total") == measured["callbacks"] > TURNS
    assert sample("busy_seconds_total") == pytest.approx(measured["busy_ns"] / 1e9, rel=0.1)
    assert sample("lag_seconds_bucket", le="+Inf") == sample("lag_seconds_count") == sum(measured["lag"]["counts"])
    assert sample("lag_seconds_bucket", le="1e-06") == measured["lag"]["counts"][0]
    assert sample("connections") == 0
    slow = measured["slowest"][0]
    assert sample("slowest_callback_seconds", callback=slow["name"]) == slow["longest_ns"] / 1e9
    text = generate_latest(registry).decode()
    assert 'uringloop_ticks_total{backend="epoll",loop="other"}' in text
    other.close()
    assert "other" not in generate_latest(registry).decode()
    collector.remove("main")
    assert "main" not in generate_latest(registry).decode()


def test_opentelemetry(loop: uringloop.EventLoop) -> None:
    library("opentelemetry.sdk")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from uringloop.metrics.opentelemetry import LoopInstruments

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    LoopInstruments({"main": loop}, provider)
    measured: Any = loop.statistics()["measured"]

    def points(name: str) -> dict[Any, float]:
        data: Any = reader.get_metrics_data()
        [found] = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == f"uringloop.{name}"
        ]
        for point in found.data.data_points:
            assert point.attributes["loop"] == "main"
            assert point.attributes["backend"] == loop.backend
        key = {"lag.bucket": "le", "slowest_callback": "callback"}.get(name, "loop")
        return {point.attributes[key]: point.value for point in found.data.data_points}

    assert points("callbacks") == {"main": measured["callbacks"]}
    assert points("connections") == {"main": 0}
    assert points("lag.bucket")[float("inf")] == sum(measured["lag"]["counts"])
    assert points("lag.bucket")[1e-6] == measured["lag"]["counts"][0]
    assert points("lag.sum")["main"] == pytest.approx(measured["lag"]["sum_ns"] / 1e9, rel=0.1)
    slow = measured["slowest"][0]
    assert points("slowest_callback")[slow["name"]] == slow["longest_ns"] / 1e9
    provider.shutdown()


def test_a_loop_is_not_kept_alive() -> None:
    from uringloop.metrics.source import LoopSource

    loop = ran()
    source = LoopSource({"main": loop})
    assert [name for name, _ in source.read()] == ["main"]
    loop.close()
    assert list(source.read()) == []
    with pytest.raises(RuntimeError, match="closed"):
        source.add("again", loop)
    reference = weakref.ref(loop)
    del loop
    gc.collect()
    assert reference() is None


def test_the_package_alone_loads_no_metrics() -> None:
    script("import sys, uringloop.loop; assert not any('metrics' in name for name in sys.modules), sys.modules")
