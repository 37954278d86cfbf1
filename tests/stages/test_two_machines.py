"""Two clones whose caches share all they hold, one of them on a processor of another kind: no result is mistaken."""

import shutil
import subprocess
from pathlib import Path

import pytest

from gan.runtime import processor_kind
from tests.helpers.pipeline_project import Project

OTHER = "Intel 6-60"
CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 60\nflags\t\t: fpu sse2 fma avx avx2\n"
GRAPH = {  # rounds by the processor
    "network": "conv",
    "generator_units": [4, 4],
    "discriminator_units": [4, 4, 8],
    "compiler": "graph",
    "steps": 21,
    "log_every_steps": 10,
}


def on_other_processor(cpuinfo):
    """The start of a command line that shows what follows `cpuinfo` for its machine's processor."""
    return ["unshare", "-m", "sh", "-c", f'mount --bind {cpuinfo} /proc/cpuinfo && exec "$@"', "sh"]


class Clone(Project):
    """A clone of a Project with an empty cache of its own; commands run on a processor of another kind."""

    def __init__(self, folder, origin, prefix):
        self.folder, self.environment, self._prefix = folder, origin.environment, prefix
        subprocess.run(["git", "clone", "-q", origin.folder, folder], check=True)

    def run(self, *command, check=True):
        return super().run(*self._prefix, *command, check=check)


def share(giver, taker):
    """Put all that one cache holds into the other, run cache and data, as a remote that everything is pushed to would."""
    shutil.copytree(giver.folder / ".dvc/cache", taker.folder / ".dvc/cache", dirs_exist_ok=True, copy_function=copy_missing)


def copy_missing(source, target):
    if not Path(target).exists():  # what is there is read-only, and the same
        shutil.copy2(source, target)


@pytest.mark.slow(seconds=40)
def test_a_shared_run_cache_never_gives_one_processors_result_for_anothers(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO)
    prefix = on_other_processor(cpuinfo)
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount (root), to show another processor")
    here = processor_kind()
    a = Project(tmp_path / "a")
    a.edit(lambda params: params["train"].update(**GRAPH, processor=here))
    a.repro("train")
    a.commit("trained")
    trained = (a.folder / "dvc.lock").read_text()

    b = Clone(tmp_path / "b", a, prefix)
    assert b.run("python", "-c", "from gan.runtime import processor_kind; print(processor_kind())").strip() == OTHER
    share(a, b)
    # what was asked for is A's result, and comes from A's entry
    (b.folder / "dvc.lock").unlink()
    assert b.repro("train") == ([], ["fetch", "normalize", "train"])
    assert (b.folder / "dvc.lock").read_text() == trained
    # a result of A's processor cannot be computed here
    b.edit(lambda params: params["train"].update(seed=1))
    refused = b.run("dvc", "repro", "train", check=False)
    assert refused.returncode != 0
    assert f"processor = '{here}': this machine's is '{OTHER}'" in refused.stdout
    assert "Traceback" not in refused.stdout
    # and one of this processor is never restored from A's
    b.edit(lambda params: params["train"].update(seed=0, processor=OTHER))
    assert b.repro("train") == (["train"], [])
    # back on A nothing of B's is taken for A's either
    share(b, a)
    (a.folder / "dvc.lock").unlink()
    assert a.repro("train") == ([], ["fetch", "normalize", "train"])
    assert (a.folder / "dvc.lock").read_text() == trained
