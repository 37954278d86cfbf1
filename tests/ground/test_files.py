"""Files and folders appear whole or not at all, whoever dies and when."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gan.files import replacing, replacing_folder, sha256, write_bytes, write_json

ROOT = Path(__file__).resolve().parents[2]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_into_folders_that_do_not_exist_yet(tmp_path):
    write_bytes(tmp_path / "a/b/c.bin", b"content")
    assert (tmp_path / "a/b/c.bin").read_bytes() == b"content"
    assert names(tmp_path / "a/b") == ["c.bin"]


def test_the_temporary_file_has_the_suffix_and_the_old_file_stays_until_the_end(tmp_path):
    target = tmp_path / "model.keras"
    target.write_text("old")
    with replacing(target) as temporary:
        assert (temporary.suffix, temporary.parent) == (".keras", tmp_path)
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), replacing(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_modes_follow_the_umask_which_stays_as_it_is(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patches:
            patches.delattr(os, "umask")  # it is the whole process's, other threads' too
            write_bytes(tmp_path / "file", b"")
            with replacing_folder(tmp_path / "folder"):
                pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "stale.png").write_text("old")
    with replacing_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub/new.png").write_text("new")
        assert names(target) == ["stale.png"]
    assert names(target) == ["sub"]
    assert (target / "sub/new.png").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_an_error_leaves_the_old_folder_and_nothing_beside_it(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.png").write_text("old")
    with pytest.raises(RuntimeError), replacing_folder(target) as folder:
        (folder / "half.png").write_text("half")
        raise RuntimeError
    assert names(target) == ["old.png"]
    assert names(tmp_path) == ["out"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = """
import os, signal, sys
from gan.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, target], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"


def test_json_is_indented_keeps_the_order_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None, "x"]})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"b": 1, "a": [1.5, None, "x"]}
    assert text.startswith('{\n  "b": 1,') and text.endswith("}\n")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"a": {"b": float("nan")}}, "a.b, got nan"),
        ({"a": [1.0, float("inf")]}, r"a\[1\], got inf"),
        ([{"a": -float("inf")}], r"\[0\].a, got -inf"),
    ],
)
def test_json_refuses_what_json_does_not_have_and_names_it(tmp_path, value, name):
    with pytest.raises(ValueError, match=f"expected a finite number for {name}"):
        write_json(tmp_path / "a.json", value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "digest"),
    [  # FIPS 180-2's examples
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
    ids=["empty", "abc", "million"],
)
def test_sha256(tmp_path, content, digest):
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == digest


def test_what_killed_writers_have_left_goes_with_the_next_and_what_others_write_stays(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from gan.files import replacing, replacing_folder\n"
        "with replacing('report.json') as file, replacing_folder('report') as folder:\n"
        "    file.write_text('half'); (folder / 'index.html').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    left = names(tmp_path)
    assert len(left) == 2
    (tmp_path / ".report-20260101.json").write_text("a person's")
    with replacing_folder(tmp_path / "report") as other:
        (other / "index.html").write_text("of another")
        write_json(tmp_path / "other.json", {})
        assert set(left) - set(names(tmp_path)) == {name for name in left if not name.endswith(".json")}
        with replacing_folder(tmp_path / "report") as folder:
            (folder / "index.html").write_text("whole")
        assert other.exists()
        write_json(tmp_path / "report.json", {})
    assert names(tmp_path) == [".report-20260101.json", "other.json", "report", "report.json"]
    assert (tmp_path / "report" / "index.html").read_text() == "of another"
