"""What the DVC process of a run does otherwise than DVC alone."""

import pytest

from flows.dvc import process


def test_a_lock_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    lock = tmp_path / "dvc.lock"
    lock.write_text("the old one")
    lock.chmod(0o640)

    def write(path, data, dumper=None):
        with open(path, "w") as file:
            file.write(data[:3])
            file.flush()
            if dumper is not None:
                raise dumper
            file.write(data[3:])

    write_lock = process._whole_or_not_at_all(write)
    with pytest.raises(KeyboardInterrupt):
        write_lock(lock, "the new one", dumper=KeyboardInterrupt())
    assert lock.read_text() == "the old one"
    write_lock(lock, "the new one")
    assert lock.read_text() == "the new one"
    assert lock.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / ".dvc" / "tmp").iterdir()] == []
