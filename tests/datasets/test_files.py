"""Where a file is taken from, and what is said if it cannot be had."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from lipsplines.datasets import DataError, DataWarning
from lipsplines.datasets.files import read

from .conftest import Answer, set_of


@pytest.fixture
def named(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that ``LIPSPLINES_DATA`` names."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("LIPSPLINES_DATA", str(folder))
    return folder


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_the_named_folder_comes_before_the_cache_and_the_source(source, named, cache, entry):
    """Each of three files is in one place only; nothing is asked for twice."""
    put(named, "set/a", b"a")
    put(cache, "set/b", b"b")
    source.answers["/c"] = Answer(b"c")
    data = set_of(*(entry(f"set/{x}", x.encode(), f"{source.address}/{x}") for x in "cba"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert list(read(data).items()) == [("set/c", b"c"), ("set/b", b"b"), ("set/a", b"a")]
    assert source.asked == [("/c", None)]
    assert [path.name for path in named.rglob("*")] == ["set", "a"]


def test_a_wrong_file_of_the_named_folder_is_named_and_left_alone(source, named, cache, entry):
    put(named, "a", b"another")
    source.answers["/a"] = Answer(b"content")
    data = set_of(entry("a", b"content", f"{source.address}/a"))
    with pytest.warns(DataWarning, match=r"data/a is not used: its SHA-256 is not the registered"):
        assert read(data) == {"a": b"content"}
    assert (named / "a").read_bytes() == b"another"


def test_a_folder_in_place_of_a_file(named, entry) -> None:
    (named / "a").mkdir()
    with (
        pytest.warns(DataWarning, match=r"data/a is not used"),
        pytest.raises(DataError, match="could not be downloaded"),
    ):
        read(set_of(entry("a", b"content" * 999)))


def test_offline_a_sentence_says_what_to_do(cache, entry) -> None:
    names = ("set/a", "set/b")
    unreachable = "https://127.0.0.1:9/"
    data = set_of(*(entry(name, b"content", unreachable + name) for name in names))
    put(cache, "set/b", b"content")
    with pytest.raises(DataError) as caught:
        read(data)
    sentence = str(caught.value)
    assert "test/set: set/a could not be downloaded (127.0.0.1: " in sentence
    assert "1 of 2 files are not in the cache." in sentence
    assert "Connect to the network, or put set/a" in sentence
    assert "set LIPSPLINES_DATA to its path" in sentence


def test_offline_with_a_folder_that_lacks_the_file(named, entry) -> None:
    with pytest.raises(DataError, match=r"not in LIPSPLINES_DATA \(.*/data\)"):
        read(set_of(entry("a", b"content")))


def test_a_name_that_is_no_folder(named, monkeypatch, entry) -> None:
    monkeypatch.setenv("LIPSPLINES_DATA", str(named / "nowhere"))
    with pytest.raises(DataError, match=r"names .*/nowhere, which is not a folder; name one"):
        read(set_of(entry("a", b"a")))


def test_an_empty_name_is_none(cache, monkeypatch, entry) -> None:
    monkeypatch.setenv("LIPSPLINES_DATA", "")
    put(cache, "a", b"a")
    assert read(set_of(entry("a", b"a"))) == {"a": b"a"}


def test_without_a_home_folder_the_named_folder_is_enough(named, entry, monkeypatch) -> None:
    """As for a user of a container who is a number only."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME")
    put(named, "a", b"content")
    data = set_of(entry("a", b"content"), entry("b", b"more"))
    with pytest.raises(DataError, match=r"this user has no home folder.*put b \(and"):
        read(data)
    put(named, "b", b"more")
    assert read(data) == {"a": b"content", "b": b"more"}
