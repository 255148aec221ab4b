"""Files are written whole, never through a link, and read where they are regular and small."""

import os
import resource
import socket
import stat

import pytest

from bsrbench.harness.files import (
    MOST_TEXT,
    PART,
    make_folder,
    read_bytes,
    read_json,
    replace_whole,
    write_whole,
)


@pytest.fixture
def no_room():
    """Lets the kernel refuse to write a file beyond 1,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    inside = tmp_path / "folder" / "report.md"
    inside.parent.mkdir()
    inside.symlink_to(outside)
    write_whole(inside, "new")

    assert outside.read_text() == "mine"
    assert inside.read_text() == "new"
    assert not inside.is_symlink()


def test_a_link_that_leads_nowhere_makes_nothing_there(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    write_whole(tmp_path / "link", "new")

    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "link").read_text() == "new"


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, no_room):
    path = tmp_path / "table.csv"
    write_whole(path, "old")
    with pytest.raises(OSError, match="File too large"):
        write_whole(path, "n" * 2000)

    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_whatever_stops_a_writer_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "a"
    write_whole(path, "old")

    def half(partial):
        assert partial.parent == tmp_path
        assert partial.name.endswith(PART)
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_whole(path, half)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_file_is_for_others_to_read_and_its_name_may_be_as_long_as_names_are(tmp_path):
    path = tmp_path / ("n" * 255)
    write_whole(path, b"bytes")

    assert path.read_bytes() == b"bytes"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_text_that_is_no_text_is_written_as_its_code(tmp_path):
    write_whole(tmp_path / "a", "half a pair: \ud800")

    assert (tmp_path / "a").read_text() == r"half a pair: \ud800"


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "details").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="details is a symbolic link, expected a folder"):
        make_folder(tmp_path / "details")
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()


@pytest.fixture
def strange(tmp_path):
    """Return a folder of what is no regular file, or not one to be read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_TEXT + 1)  # takes no room
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        yield tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pipe", "it is a pipe, expected a regular file"),
        ("folder", "it is a folder, expected a regular file"),
        ("zero", "it is a device, expected a regular file"),
        ("socket", "No such device or address"),
        ("loop", "Too many levels of symbolic links"),
        ("gone", "No such file or directory"),
        ("a\0b", "its name contains a zero byte"),
        ("n" * 300, "File name too long"),
        ("large", "it has 16,777,217 bytes, more than 16,777,216"),
    ],
)
def test_what_is_no_file_to_read_is_said_and_not_waited_for(strange, name, said):
    with pytest.raises(OSError, match=said):
        read_bytes(strange / name)


def test_a_file_that_does_not_say_its_size_is_read(tmp_path):
    assert b"processor" in read_bytes("/proc/cpuinfo")
    with pytest.raises(OSError, match="more than 10"):
        read_bytes("/proc/cpuinfo", 10)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_whole(tmp_path / "a", "0123456789")

    assert read_bytes(tmp_path / "link", 10) == b"0123456789"


@pytest.mark.parametrize("text", ["[" * 5000, '"\\ud800"', "1e999", "NaN", "{", "\x00", ""])
def test_json_is_json_and_not_nested_without_end(tmp_path, text):
    write_whole(tmp_path / "a", text)
    with pytest.raises(ValueError, match="line 1"):
        read_json(tmp_path / "a")
