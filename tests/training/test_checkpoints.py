import importlib.metadata
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from gan.errors import UserError
from gan.files import try_lock
from gan.params import read_section
from gan.training.checkpoints import Scratch, run_key
from gan.training.params import TrainParams

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def log():
    return []


@pytest.fixture
def scratch(tmp_path, log):
    with Scratch(tmp_path, "key", wait_seconds=0.3, log=log.append) as opened:
        yield opened


def newest(scratch):
    return sorted(scratch.folder.glob("checkpoint-*.npz"))[-1]


def test_nothing_saved_is_none(scratch):
    assert scratch.load() is None


def test_arrays_come_back_exactly_and_in_order(scratch):
    arrays = {"b/1": np.arange(3, dtype=np.float32), "a": np.array([np.pi]), "c": np.zeros((0, 3), np.uint8)}
    assert scratch.save(7, arrays)
    loaded = scratch.load()
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_the_newest_two_are_kept(scratch):
    for step in (9, 10, 100):
        scratch.save(step, {"step": np.array(step)})
    assert [path.name for path in sorted(scratch.folder.iterdir())] == ["checkpoint-000000010.npz", "checkpoint-000000100.npz"]
    assert scratch.load()["step"] == 100


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: b"\0" * len(content),
        lambda content: content + b"more",
    ],
    ids=["truncated", "empty", "one bit", "zeros", "longer"],
)
def test_a_damaged_checkpoint_is_ignored_for_the_one_before(scratch, log, damage):
    scratch.save(1, {"step": np.array(1)})
    scratch.save(2, {"step": np.array(2)})
    path = newest(scratch)
    path.write_bytes(damage(path.read_bytes()))
    assert scratch.load()["step"] == 1
    assert "checkpoint-000000002.npz is damaged" in log[0]
    assert not path.exists()


def test_all_damaged_is_none(scratch):
    scratch.save(1, {"step": np.array(1)})
    newest(scratch).write_bytes(b"junk")
    assert scratch.load() is None


def test_too_little_memory_is_no_damage(scratch, log):
    """In a process of its own, which may have only a little more memory than it has at the start."""
    scratch.save(1, {"weights": np.zeros(1 << 25, np.uint8)})
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from gan.training.checkpoints import Scratch\n"
        "scratch = Scratch(sys.argv[1], 'key')\n"
        "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
        "limit = pages * resource.getpagesize() + int(sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "scratch.load()"
    )
    for spare in (1 << 24, 5 << 24):  # too little for the file's bytes, and for the arrays in them
        command = [sys.executable, "-c", program, str(scratch.folder.parent), str(spare)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.stderr.splitlines()[-1] == "MemoryError"
    assert scratch.load()["weights"].size == 1 << 25
    assert log == []


def test_a_checkpoint_that_cannot_be_read_is_no_damage(scratch, log):
    scratch.save(1, {"step": np.array(1)})
    path = newest(scratch)
    path.rename(path.with_name("whole"))
    path.symlink_to("/proc/self/mem")  # reading at its start is an error of input and output, as on a failing disk
    with pytest.raises(UserError, match=f"checkpoint {path} cannot be read: Input/output error; try again, or delete it"):
        scratch.load()
    assert path.is_symlink()
    path.with_name("whole").rename(path)
    assert scratch.load()["step"] == 1
    assert log == []


def test_a_checkpoint_with_the_right_checksum_is_not_deleted_whatever_it_holds(scratch, log):
    scratch.save(1, {"objects": np.array([None])})
    with pytest.raises(UserError, match="cannot be read: it holds Python objects, which are never read; try again, or delete it"):
        scratch.load()
    assert newest(scratch).is_file()
    assert log == []


def test_a_failed_write_is_logged_and_keeps_what_was_there(scratch, log, monkeypatch):
    scratch.save(1, {"step": np.array(1)})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not scratch.save(2, {"step": np.array(2)})
    assert "no checkpoint at step 2: No space left on device" in log[0]
    assert scratch.load()["step"] == 1
    assert len(list(scratch.folder.iterdir())) == 1


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / ".checkpoint-000000005-x.npz").write_bytes(b"half")
    with Scratch(tmp_path, "key") as scratch:
        assert list(scratch.folder.iterdir()) == []


def test_remove_leaves_no_folder(scratch):
    scratch.save(1, {"step": np.array(1)})
    scratch.remove()
    assert not scratch.folder.exists()


HOLDER = textwrap.dedent(
    """
    import sys, time
    from gan.training.checkpoints import Scratch
    with Scratch(sys.argv[1], "key"):
        print("held", flush=True)
        time.sleep(600)
    """
)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_with_the_firsts_number(tmp_path, holder, log):
    started = time.monotonic()
    with (
        pytest.raises(UserError, match=f"already running in process {holder.pid}"),
        Scratch(tmp_path, "key", wait_seconds=0.5, log=log.append),
    ):
        pass
    assert 0.4 < time.monotonic() - started < 30
    assert len(log) == 1 and "waiting" in log[0]
    with Scratch(tmp_path, "another key"):
        pass


def test_who_waits_says_for_whom_as_soon_as_it_is_known(tmp_path, log, monkeypatch):
    held = try_lock(tmp_path / "key.lock")

    def name_itself():
        held.write("123")
        held.flush()

    events = iter([name_itself, held.close])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(events)())
    with Scratch(tmp_path, "key", wait_seconds=60, log=log.append):
        assert (tmp_path / "key.lock").read_text() == str(os.getpid())
    assert log == ["waiting up to 60 s for process 123, which runs this very training"]


def test_only_who_holds_the_lock_makes_the_folder(tmp_path, holder, log):
    (tmp_path / "key").rmdir()
    with pytest.raises(UserError, match="already running"), Scratch(tmp_path, "key", wait_seconds=0.2, log=log.append):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


def test_the_lock_of_a_killed_process_is_free(tmp_path, holder):
    holder.kill()
    holder.wait()
    with Scratch(tmp_path, "key", wait_seconds=2):
        pass


def test_nothing_is_left_of_the_lock(tmp_path):
    with Scratch(tmp_path, "key") as scratch:
        scratch.save(1, {"step": np.array(1)})
        assert [path.name for path in tmp_path.glob("*.lock")] == ["key.lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    with Scratch(tmp_path, "key") as scratch:
        scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_saved_nothing_leaves_no_folder(tmp_path):
    with Scratch(tmp_path, "key"):
        pass
    assert list(tmp_path.iterdir()) == []


CONTENDER = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from gan.training.checkpoints import Scratch
    alone = Path(sys.argv[1]) / "alone"
    time.sleep = lambda seconds: os.sched_yield()  # a race needs contenders that are awake when the lock goes
    for _ in range(2000):
        with Scratch(sys.argv[1], "key", wait_seconds=600, log=lambda line: None):
            os.close(os.open(alone, os.O_CREAT | os.O_EXCL))
            alone.unlink()
    """
)


@pytest.mark.slow
def test_a_lock_that_is_removed_each_time_still_lets_one_process_in_at_a_time(tmp_path):
    contenders = [subprocess.Popen([sys.executable, "-c", CONTENDER, str(tmp_path)], cwd=ROOT) for _ in range(4)]
    assert [process.wait(280) for process in contenders] == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_change_of_any_file_that_training_runs_gives_another_key(tmp_path):
    from stages.command import code_files

    params = read_section(ROOT / "params.yaml", "train", TrainParams)
    pixels = np.zeros((1, 28, 28, 1), np.uint8)
    files = code_files("train")
    assert {"gan/errors.py", "gan/training/step.py", "gan/training/threefry.py", "stages/train.py"} <= set(files)
    for name, path in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(path.read_bytes())
    copies = {name: tmp_path / name for name in files}
    key = run_key(params, pixels, None, code_files=files)
    assert run_key(params, pixels, None, code_files=copies) == key
    for path in copies.values():
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert run_key(params, pixels, None, code_files=copies) != key, path
        path.write_bytes(content)


def test_a_change_of_the_data_or_of_a_library_gives_another_key(monkeypatch):
    params = read_section(ROOT / "params.yaml", "train", TrainParams)
    pixels, labels = np.zeros((2, 28, 28, 1), np.uint8), np.zeros(2, np.uint8)
    another_pixel, another_label = pixels.copy(), labels.copy()
    another_pixel[1, 27, 27, 0] = another_label[1] = 1

    def key(pixels, labels):
        return run_key(params, pixels, labels, code_files={})

    keys = [key(pixels, labels), key(another_pixel, labels), key(pixels, another_label), key(pixels, None)]
    version = importlib.metadata.version
    for library in ("tensorflow", "keras", "numpy", "scipy"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, other=library: version(name) + "+x" * (name == other))
        keys.append(key(pixels, labels))
    assert len(set(keys)) == 8
    monkeypatch.undo()
    assert key(pixels.copy(), labels.copy()) == keys[0]


@pytest.mark.slow
def test_training_loads_no_file_of_the_project_that_its_key_leaves_out(tensorflow):
    """Not what the source text imports but what a process has really loaded."""
    program = (
        "import sys; import stages.train; from gan.runtime import start_tensorflow; start_tensorflow(1)\n"
        "import gan.arrays, gan.training.engine, gan.training.loop, gan.training.checkpoints, gan.keras_files\n"
        "print('\\n'.join(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {Path(line).relative_to(ROOT) for line in done.stdout.splitlines() if Path(line).is_relative_to(ROOT)}
    from stages.command import code_files

    own = {str(path) for path in loaded if path.parts[0] in ("gan", "stages", "flows", "commands")}
    assert own and own <= set(code_files("train"))
