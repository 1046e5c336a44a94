"""The doctor, `python -m uringloop`: its exit code, its two forms, and that it never ends in a traceback.

What it says where io_uring is refused: tests/refused.
"""

import dataclasses
import errno
import json
import os
import platform
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import uringloop
from tests.children import python
from tests.kernel import needs
from uringloop import __main__ as doctor
from uringloop.ring import OPTIONAL, Features, Opcode, Ring, RingUnavailableError

FIELDS = {field.name for field in dataclasses.fields(doctor.Report)}


@needs("io_uring")
def test_as_json() -> None:
    finished = python(["-m", "uringloop", "--json"])
    assert (finished.returncode, finished.stderr) == (0, "")
    facts = json.loads(finished.stdout)
    assert set(facts) == FIELDS
    assert facts["usable"] is True
    assert facts["cause"] is facts["remedy"] is facts["error"] is None
    assert facts["uringloop"] == uringloop.__version__
    assert facts["python"] == f"CPython {platform.python_version()}"
    assert facts["kernel"] == f"Linux {platform.release()}"
    assert set(facts["optional"]) == set(OPTIONAL)
    assert set(facts["operations"]) | set(facts["operations_missing"]) == {op.name for op in Opcode}
    assert {"NOP", "READ", "WRITE", "OPENAT"} <= set(facts["operations"])
    assert {"EXT_ARG", "NODROP"} <= set(facts["features"])
    assert facts["limits"]["bounded_workers"] > 0
    assert facts["limits"]["unbounded_workers"] > 0
    assert facts["limits"]["nofile"] == list(resource.getrlimit(resource.RLIMIT_NOFILE))
    assert facts["limits"]["URINGLOOP_DISABLE"] is False


@needs("io_uring")
def test_as_text() -> None:
    finished = python(["-m", "uringloop"])
    assert (finished.returncode, finished.stderr) == (0, "")
    text = finished.stdout
    assert "io_uring can be used here." in text
    assert f"uringloop {uringloop.__version__} on CPython" in text
    for word in (*OPTIONAL, "OPENAT", "EXT_ARG", "nofile", "memlock", "kernel.io_uring_disabled"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 100


@needs("io_uring")
def test_agrees_with_the_ring() -> None:
    with Ring() as ring:
        ring.open_buffers(8, 4096, 8)
        report = doctor.examine()
        assert report.usable == uringloop.is_available()
        assert {name for name, used in report.optional.items() if used} == ring.features.enabled
        assert {getattr(Opcode, name) for name in report.operations} == ring.features.opcodes


def test_disabled_by_variable() -> None:
    finished = python(["-m", "uringloop"], URINGLOOP_DISABLE="1")
    assert (finished.returncode, finished.stderr) == (1, "")
    assert "io_uring cannot be used here." in finished.stdout
    assert "URINGLOOP_DISABLE is set." in finished.stdout


def test_wrong_argument_is_a_usage_error() -> None:
    finished = python(["-m", "uringloop", "--nonsense"])
    assert finished.returncode == 2
    assert "usage: python -m uringloop" in finished.stderr


def _unavailable(backend: str) -> Features:
    raise RingUnavailableError(errno.EPERM, "A cause.", "A remedy.")


def _unexpected(backend: str) -> Features:
    raise OSError(errno.EBADFD, "something else")


def _nameless(backend: str) -> Features:
    raise OSError("no errno at all")


@pytest.mark.parametrize("features", [_unavailable, _unexpected, _nameless])
@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_whatever_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    features: Callable[[str], Features],
    arguments: list[str],
) -> None:
    monkeypatch.setattr(doctor, "_features", features)
    monkeypatch.setattr(doctor, "_survive", lambda: None)
    assert doctor.main(arguments) == 1
    assert ("A cause." if features is _unavailable else "not know") in capsys.readouterr().out


@needs("io_uring")
def test_limits_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(errno.EPERM, "refused")

    monkeypatch.setattr(resource, "getrlimit", refused)
    monkeypatch.setattr(Path, "read_text", refused)
    monkeypatch.setattr(os, "fork", refused)
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert "nofile                    not known" in text
    assert "this kernel has no such switch" in text


@needs("io_uring")
def test_kernel_without_the_newer_features() -> None:
    report = doctor.examine()
    with Ring(without=frozenset(OPTIONAL)) as ring:
        doctor._describe(report, dataclasses.replace(ring.features, opcodes=frozenset({Opcode.NOP})))
    text = doctor.write_text(report)
    assert all(f"lacks {name}" in text for name in OPTIONAL)
    assert report.operations == ["NOP"]
    assert "READ" in report.operations_missing


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("nofile", [1024, None], "1024 (hard limit unlimited)"),
        ("nofile", None, "not known"),
        ("kernel.io_uring_disabled", 2, "2, nobody may"),
        ("kernel.io_uring_disabled", None, "this kernel has no such switch"),
        ("kernel.io_uring_disabled", 7, "7"),
        ("kernel.io_uring_group", 1000, "1000"),
    ],
)
def test_limit_texts(name: str, value: Any, text: str) -> None:
    assert doctor._limit_text(name, value) == text
