"""What a source consists of, and the hash that decides whether it changed."""

from __future__ import annotations

import hashlib
import os

import pytest

from converter.errors import SourceError
from converter.planning.source_files import file_sha256, source_bytes, source_files, source_sha256, source_stat


@pytest.fixture
def checkpoints(tmp_path):
    """model-100 and model-200 side by side, as a training writes them, and a prefix that begins the same."""
    for step in (100, 200, 1000):
        for suffix in ("meta", "index", "data-00000-of-00002", "data-00001-of-00002"):
            (tmp_path / f"model-{step}.{suffix}").write_text(f"{step} {suffix}")
    (tmp_path / "checkpoint").write_text("model-200")
    return tmp_path


def names(files):
    return [file.name for file in files]


def test_a_checkpoint_is_the_files_of_its_prefix(checkpoints):
    expected = ["model-100.data-00000-of-00002", "model-100.data-00001-of-00002", "model-100.index", "model-100.meta"]
    assert names(source_files(checkpoints / "model-100.meta")) == expected
    (checkpoints / "model-100").write_text("old format")
    assert "model-100" in names(source_files(checkpoints / "model-100.meta"))


def test_other_checkpoints_do_not_change_the_hash(checkpoints):
    source = checkpoints / "model-100.meta"
    before = source_sha256(source)
    (checkpoints / "model-200.index").write_text("changed")
    (checkpoints / "checkpoint").write_text("changed")
    assert source_sha256(source) == before
    (checkpoints / "model-100.data-00001-of-00002").write_text("changed")
    assert source_sha256(source) != before


def test_a_file_has_its_own_hash(tmp_path):
    file = tmp_path / "a b.h5"
    file.write_bytes(b"weights")
    assert source_sha256(file) == file_sha256(file) == hashlib.sha256(b"weights").hexdigest()
    assert source_bytes(file) == 7


def test_the_hash_of_several_files_is_that_of_their_sorted_names_and_hashes(tmp_path):
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    lines = [
        f"saved_model.pb\t{hashlib.sha256(b'graph').hexdigest()}\n",
        f"variables/variables.index\t{hashlib.sha256(b'index').hexdigest()}\n",
    ]
    assert source_sha256(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert source_bytes(folder) == 10
    moved = folder.rename(tmp_path / "elsewhere")
    assert source_sha256(moved) == hashlib.sha256("".join(lines).encode()).hexdigest()
    (moved / "saved_model.pb").rename(moved / "renamed.pb")
    assert source_sha256(moved) != hashlib.sha256("".join(lines).encode()).hexdigest()


def test_snakemakes_mark_is_no_part_of_a_source(tmp_path):
    (tmp_path / "a").write_text("a")
    before = source_sha256(tmp_path)
    (tmp_path / ".snakemake_timestamp").write_text("")
    assert source_sha256(tmp_path) == before


def test_stat_tells_every_way_a_file_can_change(tmp_path):
    file = tmp_path / "a"
    file.write_text("one")
    before = source_stat(file)
    assert source_stat(file) == before
    os.utime(file, (0, 0))
    older = source_stat(file)
    file.write_text("three")
    assert len({str(before), str(older), str(source_stat(file))}) == 3


def test_what_is_no_source(tmp_path):
    with pytest.raises(SourceError, match="gone does not exist"):
        source_files(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="pipe is neither a file nor a directory"):
        source_files(tmp_path / "pipe")


def test_files_of_holes_are_not_read(tmp_path):
    """4 TB in 4 KB, as an archive may hold it: reading it would take hours."""
    path = tmp_path / "model.h5"
    with open(path, "wb") as file:
        file.write(b"start")
        file.truncate(1 << 42)
    if path.stat().st_blocks * 512 > 1 << 30:
        pytest.skip("this file system has no holes")
    with pytest.raises(SourceError, match="holes"):
        source_sha256(path)
    os.truncate(path, 1 << 20)
    assert source_sha256(path) == file_sha256(path)
