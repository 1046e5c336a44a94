"""`variable`: as os.environ has it, also where a test has put another dict in its place."""

import os

import pytest

from uringloop.ring.variables import variable

NAME = "URINGLOOP_TEST_VARIABLE"


def test_set_and_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    assert variable(NAME) == ""
    monkeypatch.setenv(NAME, "välue")
    assert variable(NAME) == "välue"
    monkeypatch.delenv(NAME)
    assert variable(NAME) == ""


def test_another_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {NAME: "value"})
    assert variable(NAME) == "value"
    assert variable("PATH") == ""
