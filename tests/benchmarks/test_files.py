"""`benchmarks/files.py` runs: every case with plain `open` and with ours on both backends; contents are checked."""

import json
from pathlib import Path

import pytest

from benchmarks import file_cases, files


def test_every_case_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "files.json"
    ours = ["uringloop", "uringloop epoll"]
    files.main(["--quick", "--contenders", "open", "fio", *ours, "--folder", str(tmp_path), "--json", str(record)])
    content = json.loads(record.read_text())
    assert content["versions"]["uringloop"]
    assert content["machine"]["kernel"]
    assert [result["case"] for result in content["results"]] == [question.title for question in files.CASES.values()]
    for result in content["results"]:
        assert all(result["contenders"][name].get("value") for name in ours), capsys.readouterr().out
    assert not [path for path in tmp_path.iterdir() if path != record]


def test_what_is_not_installed_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "installed", lambda name: name == "open")
    files.main(["--quick", "--contenders", "open", "aiofiles", "--cases", "open", "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "aiofiles is not installed, and left out" in printed
    assert "files/s" in printed


@pytest.mark.parametrize("contender", ["open", "uringloop@asyncio"])
@pytest.mark.parametrize(("case", "name"), [("open", "small7"), ("seek", "large"), ("lines", "text")])
def test_wrong_content_is_noticed(contender: str, case: str, name: str, tmp_path: Path) -> None:
    first_place = next(file_cases.places(file_cases.BLOCKS)) * file_cases.BLOCK_BYTES
    file_cases.prepare(tmp_path, 0)
    with (tmp_path / name).open("r+b") as file:
        file.seek(3000 + (first_place if case == "seek" else 0))
        file.write(b"?")
    with pytest.raises(file_cases.WrongContent):
        file_cases.sample(contender, case, tmp_path, 0.1)


def test_places_are_all_visited() -> None:
    places = file_cases.places(64)
    assert sorted(next(places) for _ in range(64)) == list(range(64))
