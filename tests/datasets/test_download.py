"""Downloads: resumed, checked, from another source if one fails, by one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lipsplines.datasets import DataError, DataWarning, download, transfer

from .conftest import Answer

CONTENT = bytes(i * i % 251 for i in range(300_000))
ROOT = Path(download.__file__).parents[2]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_fetched_once_and_kept(source, cache, entry) -> None:
    source.answers["/a"] = Answer(CONTENT)
    file = entry("set/a", CONTENT, f"{source.address}/a")
    for _ in range(2):
        assert download.fetch([file], cache) == {"set/a": CONTENT}
    assert source.asked == [("/a", None)]
    assert (cache / "set" / "a").read_bytes() == CONTENT
    assert names(cache) == {"a", ".lock"}


def test_many_files_with_one_bar(source, cache, entry, capsys) -> None:
    contents = {f"set/{i}": bytes([i]) * (i + 1) for i in range(30)}
    for name, content in contents.items():
        source.answers[f"/{name}"] = Answer(content)
    files = [entry(name, content, f"{source.address}/{name}") for name, content in contents.items()]
    found = download.fetch(files, cache)
    assert found == contents
    assert list(found) == list(contents)
    shown = capsys.readouterr().err
    assert "30 files of data: 100%" in shown


def test_a_broken_connection_is_taken_up_where_it_ended(source, cache, entry, capsys) -> None:
    source.answers["/a"] = Answer(CONTENT, cuts=[100_000, 50_000])
    file = entry("a", CONTENT, f"{source.address}/a")
    assert download.fetch([file], cache)["a"] == CONTENT
    assert [wanted for _, wanted in source.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert "100%" in capsys.readouterr().err


def test_a_source_without_parts_sends_the_whole_again(source, cache, entry, capsys) -> None:
    source.answers["/a"] = Answer(CONTENT, cuts=[100_000], ranges=False)
    file = entry("a", CONTENT, f"{source.address}/a")
    assert download.fetch([file], cache)["a"] == CONTENT
    assert len(source.asked) == 2
    assert "100%" in capsys.readouterr().err


def test_a_source_that_always_breaks_at_one_place_is_given_up(source, cache, entry) -> None:
    source.answers["/a"] = Answer(CONTENT, cuts=[70_000] * 50, ranges=False)
    file = entry("a", CONTENT, f"{source.address}/a")
    with pytest.raises(DataError, match="connection ended after 70,000 of 300,000 bytes"):
        download.fetch([file], cache)
    assert len(source.asked) == 2
    assert names(cache) == {"a.part", ".lock"}


def test_what_was_left_by_another_process_is_continued(source, cache, entry) -> None:
    source.answers["/a"] = Answer(CONTENT)
    cache.mkdir(parents=True)
    (cache / "a.part").write_bytes(CONTENT[:1234])
    assert download.fetch([entry("a", CONTENT, f"{source.address}/a")], cache)["a"] == CONTENT
    assert source.asked == [("/a", "bytes=1234-")]


@pytest.mark.parametrize("left", [b"x" * 1234, b"x" * 300_000, CONTENT + b"x"])
def test_what_was_left_and_is_wrong_is_fetched_afresh(source, cache, entry, left: bytes) -> None:
    source.answers["/a"] = Answer(CONTENT)
    cache.mkdir(parents=True)
    (cache / "a.part").write_bytes(left)
    assert download.fetch([entry("a", CONTENT, f"{source.address}/a")], cache)["a"] == CONTENT
    assert [wanted for _, wanted in source.asked] == [f"bytes={len(left)}-", None]


def test_a_whole_file_that_was_not_renamed_is_used(source, cache, entry) -> None:
    source.answers["/a"] = Answer(CONTENT)
    cache.mkdir(parents=True)
    (cache / "a.part").write_bytes(CONTENT)
    assert download.fetch([entry("a", CONTENT, f"{source.address}/a")], cache)["a"] == CONTENT
    assert names(cache) == {"a", ".lock"}


def test_the_second_source_follows_a_first_that_has_nothing(source, cache, entry) -> None:
    source.answers["/second"] = Answer(CONTENT)
    urls = [f"{source.address}/first", f"{source.address}/second"]
    assert download.fetch([entry("a", CONTENT, *urls)], cache)["a"] == CONTENT
    assert [path for path, _ in source.asked] == ["/first", "/second"]


def test_the_second_source_follows_a_first_that_breaks(source, cache, entry) -> None:
    """What the first has sent is continued from the second."""
    source.answers["/first"] = Answer(CONTENT, cuts=[1000, 0])
    source.answers["/second"] = Answer(CONTENT)
    urls = [f"{source.address}/first", f"{source.address}/second"]
    assert download.fetch([entry("a", CONTENT, *urls)], cache)["a"] == CONTENT
    assert source.asked[-1] == ("/second", "bytes=1000-")


def test_the_second_source_follows_a_first_that_is_wrong(source, cache, entry) -> None:
    source.answers["/first"] = Answer(CONTENT[:-1] + b"x")
    source.answers["/second"] = Answer(CONTENT)
    urls = [f"{source.address}/first", f"{source.address}/second"]
    assert download.fetch([entry("a", CONTENT, *urls)], cache)["a"] == CONTENT
    assert source.asked == [("/first", None), ("/second", None)]
    assert names(cache) == {"a", "a.corrupt", ".lock"}


def test_a_wrong_file_is_named_and_never_kept(source, cache, entry) -> None:
    source.answers["/a"] = Answer(b"<html>please log in</html>")
    file = entry("set/a", CONTENT, f"{source.address}/a")
    with pytest.raises(DataError, match=r"set/a could not .*127.0.0.1: it sent a wrong file"):
        download.fetch([file], cache)
    assert names(cache) == {"a.corrupt", ".lock"}


@pytest.mark.parametrize("says_length", [True, False])
def test_no_more_is_read_than_expected(source, cache, entry, says_length: bool) -> None:
    source.answers["/a"] = Answer(CONTENT, says_length=says_length)
    file = entry("a", CONTENT[:1000], f"{source.address}/a")
    with pytest.raises(DataError, match=r"more than the 1,000 (bytes )?expected"):
        download.fetch([file], cache)
    assert (cache / "a").exists() is False
    kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert kept <= 1000 + transfer.CHUNK


def test_only_encrypted_addresses_are_asked(source, cache, entry, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "SCHEMES", ("https",))
    source.answers["/a"] = Answer(CONTENT)
    with pytest.raises(DataError, match="is not an address of https"):
        download.fetch([entry("a", CONTENT, f"{source.address}/a")], cache)
    local = (cache / "secret").as_uri()
    with pytest.raises(DataError, match="is not an address of https"):
        download.fetch([entry("a", CONTENT, local)], cache)
    assert source.asked == []


def test_no_redirection_to_another_kind_of_address(source, cache, entry) -> None:
    source.answers["/a"] = Answer(redirect=f"{source.address}/b")
    source.answers["/b"] = Answer(CONTENT)
    source.answers["/c"] = Answer(redirect="ftp://127.0.0.1/b")
    assert download.fetch([entry("a", CONTENT, f"{source.address}/a")], cache)["a"] == CONTENT
    with pytest.raises(DataError, match=r"ftp://127.0.0.1/b is not an address"):
        download.fetch([entry("c", CONTENT, f"{source.address}/c")], cache)


def test_a_damaged_file_of_the_cache_is_put_aside_and_fetched_again(source, cache, entry) -> None:
    source.answers["/a"] = Answer(CONTENT)
    cache.mkdir(parents=True)
    (cache / "a").write_bytes(CONTENT[:5000])
    with pytest.warns(DataWarning, match=r"a is not the file .*5,000 bytes instead of 300,000.*"):
        found = download.fetch([entry("a", CONTENT, f"{source.address}/a")], cache)
    assert found["a"] == CONTENT
    assert (cache / "a").read_bytes() == CONTENT
    assert (cache / "a.corrupt").read_bytes() == CONTENT[:5000]


def test_one_missing_file_of_many_is_named(source, cache, entry) -> None:
    files = []
    for i in range(20):
        source.answers[f"/{i}"] = Answer(bytes([i]))
        files.append(entry(f"set/{i}", bytes([i]), f"{source.address}/{i}"))
    del source.answers["/7"]
    with pytest.raises(DataError, match=r"set/7 could not be downloaded .*404"):
        download.fetch(files, cache)


def test_a_cache_that_cannot_be_written(cache, entry) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("in the way")
    with pytest.raises(DataError, match=r"Nothing can be written to .*lipsplines"):
        download.fetch([entry("a", CONTENT)], cache)


def test_two_at_once_ask_once(source, cache, entry, capsys) -> None:
    """The second waits for the first and takes what it brought."""
    wait = threading.Event()
    source.answers["/a"] = Answer(CONTENT, wait=wait)
    file = entry("a", CONTENT, f"{source.address}/a")
    found: list[dict[str, bytes]] = []
    threads = [
        threading.Thread(target=lambda: found.append(download.fetch([file], cache)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while "waiting for another" not in capsys.readouterr().err and time.monotonic() < deadline:
        time.sleep(0.01)
    wait.set()
    for thread in threads:
        thread.join(20)
    assert found == [{"a": CONTENT}] * 2
    assert source.asked == [("/a", None)]


CHILD = """
import sys
from pathlib import Path
from lipsplines.datasets import download, transfer
from lipsplines.datasets.registry import File
transfer.SCHEMES = ("http",)
name, size, sha256, url, folder = sys.argv[1:]
file = File(name, int(size), sha256, int(size), (url,), False)
print("start", flush=True)
content = download.fetch([file], Path(folder))[name]
print(len(content))
"""


def child(file, cache: Path) -> subprocess.Popen:
    words = [file.name, str(file.size), file.sha256, file.urls[0], str(cache)]
    command = [sys.executable, "-c", CHILD, *words]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_processes_at_once_and_one_that_is_killed(source, cache, entry) -> None:
    """A process killed in the middle leaves a part; two others end it with one more request."""
    wait = threading.Event()
    # The source says that it sends all, sends a third, and then keeps the connection waiting.
    source.answers["/a"] = Answer(CONTENT, cuts=[100_000], hold=wait)
    file = entry("a", CONTENT, f"{source.address}/a")
    first = child(file, cache)
    part, deadline = cache / "a.part", time.monotonic() + 60
    while transfer.size_of(part) < 65_536 and time.monotonic() < deadline:
        time.sleep(0.01)
    others = [child(file, cache) for _ in range(2)]
    for process in others:
        assert process.stdout.readline() == b"start\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not (cache / "a").exists() or len(source.asked) > 1
    wait.set()
    for process in others:
        out, err = process.communicate(timeout=60)
        assert out == b"300000\n", err
    assert (cache / "a").read_bytes() == CONTENT
    assert len(source.asked) == 2
    assert int(source.asked[1][1].removeprefix("bytes=").removesuffix("-")) >= 65_536
    assert names(cache) == {"a", ".lock"}


@pytest.mark.parametrize(
    ("platform", "named", "expected"),
    [
        ("darwin", "/c", "/home/x/Library/Caches/lipsplines"),
        ("linux", "/c", "/c/lipsplines"),
        ("linux", "", "/home/x/.cache/lipsplines"),
        ("linux", "relative", "/home/x/.cache/lipsplines"),
    ],
)
def test_where_the_cache_is(monkeypatch, platform: str, named: str, expected: str) -> None:
    monkeypatch.setattr(download.sys, "platform", platform)
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    assert download.cache_folder() == Path(expected)
