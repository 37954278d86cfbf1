"""What git makes of the project's files on machines that are set up otherwise."""

import shutil
from pathlib import Path

from flows.git import Repository

ROOT = Path(__file__).resolve().parents[2]
FILES = (".gitattributes", "dvc.lock", "dvc.yaml", "docs/samples.png", "environment.py", "params.yaml", "stages/train.py")


def test_a_clone_has_the_same_bytes_where_git_converts_line_ends(tmp_path):
    here, there = Repository(tmp_path / "here"), Repository(tmp_path / "there")
    for name in FILES:
        (here.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, here.root / name)
    here.git("init", "--quiet")
    here.git("add", "--all")
    here.git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "Start")
    here.git("-c", "core.autocrlf=true", "clone", "--quiet", str(here.root), str(there.root))
    for name in FILES:
        assert (there.root / name).read_bytes() == (ROOT / name).read_bytes(), name
    there.git("config", "core.autocrlf", "true")
    assert there.git("status", "--short") == ""
