"""Commands on a machine in a bad state: full or read-only disks, no permission, little memory, flipped bits, jumping clocks."""

import contextlib
import ctypes
import functools
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from hypothesis import strategies as st

from tests.helpers.toy_project import make_project, server_url, templates
from tests.soak.case import Fault, Kind, NotChecked
from tests.soak.kills_project import STAGES, Place, fail_if, let_signals_through, shows_traceback, template, words

MIB = 1 << 20
COMMANDS = {"repro": ["dvc", "repro"], "flow": ["python", "-m", "commands", "flow"]}
_CLONE_NEWNS = 0x00020000
_PR_CAPBSET_DROP = 24
_FILE_CAPABILITIES = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER: what lets root pass permissions by
_FAKETIME = "faketime/libfaketime.so.1"
FOLDERS = (".", "data", "data/model", "data/raw", ".dvc/tmp", ".dvc/cache", ".dvc/cache/files/md5", ".scratch", ".dvc", ".git")
FILES = ("params.yaml", "dvc.yaml", "dvc.lock", "data/normalized/train_images.npy", "gan/files.py", ".dvc/config", "data/raw")


def own_mounts():
    """Give this process mounts of its own, which end with it and which nobody else sees."""
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        raise RuntimeError("mounts of its own need root")
    _mount("--make-rprivate", "/")


def why_no_disk():
    """Why no small disk can be mounted here, in one line; None where it can."""
    if os.geteuid() != 0:
        return "mounting a small disk needs root"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder, "disk"), MIB):
                return None
        except subprocess.CalledProcessError as error:
            return f"no disk can be mounted here: {error.stderr.decode().strip()[:100]}"


@contextlib.contextmanager
def small_disk(folder, size_bytes):
    """Mount a file system of so many bytes at `folder` for the block."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", folder)
    try:
        yield folder
    finally:
        _unmount(folder)


@contextlib.contextmanager
def read_only(folder):
    """Nobody can write below `folder` in the block, not even root."""
    _mount("--bind", folder, folder)
    _mount("-o", "remount,bind,ro", folder)
    try:
        yield
    finally:
        _unmount(folder)


def _mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def _unmount(folder):
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def fill(folder, free_bytes):
    """Leave `free_bytes` on the file system of `folder`; the file that takes the rest."""
    filler = folder / ".filler"
    status = os.statvfs(folder)
    with open(filler, "wb") as file:
        count = max(0, status.f_bavail * status.f_frsize - free_bytes)
        if count:
            os.posix_fallocate(file.fileno(), 0, count)
    return filler


def drop_file_capabilities():
    """For `preexec_fn`: what is started obeys permissions, as a person's programs do, even where root starts it."""
    prctl = ctypes.CDLL(None).prctl
    for number in _FILE_CAPABILITIES:
        prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def judged(code, log, case, *, command=None, killed_is_right=False):
    """What is wrong with how a command of a case, by default its first, ended, as (fault, what) pairs.

    killed_is_right: the kernel may have killed it, which leaves it no time for a line.
    """
    if shows_traceback(command or case["command"], log):
        return [("traceback", f"exit code {code}")]
    if code == -signal.SIGKILL and killed_is_right:
        return []
    if code < 0:
        return [("crash", f"the command itself ended with {code}")]
    starts = ("ERROR: ", "python -m stages.", "gan: ", "Error: ", "Failed: ", "Cancelled: ", "NotPushed: ")
    if code != 0 and not [line for line in log.splitlines() if line.startswith(starts) and len(line.strip()) > 12]:
        return [("unclear", f"exit code {code} for {case['stage']} without a line that says why")]
    return []


def others_lost(place, case):
    """Results of stages that were not to run, and that are not as they were."""
    own = {str(out.relative_to(place.root / "data")) for out in place.outs(case["stage"])}
    digests = place.digests()

    def is_own(name):
        return any(name == out or name.startswith(f"{out}/") for out in own)

    lost = [name for name, digest in place.wanted.items() if not is_own(name) and digests.get(name) != digest]
    return [("differs", f"lost: {lost[:5]}")] if lost else []


def then_right(place, case, found):
    """Run the case's command with the fault gone, and raise the Fault of all that is wrong."""
    by_dvc_alone = case["command"] == "repro"
    code = place.run_next(*COMMANDS[case["command"]], by_dvc_alone=by_dvc_alone)
    if code != 0:
        found.append(("differs", f"the next run ended with {code}"))
    found += place.wrong(by_dvc_alone=by_dvc_alone)
    fail_if(found, place.log(), place.log("next"))


def common(dice):
    """What most cases have."""
    return {"stage": dice.choice(STAGES), "command": dice.choice(["repro", "repro", "flow"]), "outs_there": dice.random() < 0.5}


def run_and_judge(place, case, *, within=None, **options):
    """Run the case's command while its fault lasts: what was wrong with that. within: a file that takes its process' number."""
    command = words(COMMANDS[case["command"]])
    if within:
        command = ["sh", "-c", f"echo $$ > {within}; exec {shlex.join(command)}"]
    code = place.run(*command, **options)
    return judged(code, place.log(), case, killed_is_right=within is not None) + others_lost(place, case)


def run_full_disk(case, folder):
    """The disk of the repository is full, or will be in the middle of a stage or of what DVC does after it."""
    with small_disk(folder / "disk", 250 * MIB) as disk:
        place = Place(disk, missing=[case["stage"]], keep_outs=False, logs=folder / "logs")
        place.environment |= {"PREFECT_HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir()
        shutil.copytree(place.folder / "home", folder / "home")
        needed = sum(path.stat().st_size for path in place.cached(case["stage"]))
        filler = fill(disk, int(case["free"] * (2 * needed + 300_000)))
        found = run_and_judge(place, case)
        filler.unlink()
        then_right(place, case, found)


def run_full_temporary(case, folder):
    """The folder for temporary files is full."""
    place = Place(folder / "place", missing=[case["stage"]], keep_outs=case["outs_there"])
    with small_disk(folder / "full", MIB) as disk:
        fill(disk, case["free_bytes"])
        place.environment["TMPDIR"] = str(disk)
        found = run_and_judge(place, case)
        place.environment["TMPDIR"] = str(place.tmp)
        then_right(place, case, found)


def run_read_only(case, folder):
    """A folder of the repository cannot be written."""
    place = Place(folder / "place", missing=[case["stage"]], keep_outs=case["outs_there"])
    target = place.root / case["folder"]
    target.mkdir(parents=True, exist_ok=True)
    with read_only(target):
        found = run_and_judge(place, case)
    then_right(place, case, found)


def run_no_permission(case, folder):
    """A file or folder of the repository may not be read, or not be written."""
    place = Place(folder / "place", missing=[case["stage"]], keep_outs=case["outs_there"])
    target = place.root / case["path"]
    if not target.exists():
        target.mkdir(parents=True)
    mode = target.stat().st_mode
    target.chmod(case["mode"])
    found = judged(place.run(*COMMANDS[case["command"]], preexec_fn=drop_file_capabilities), place.log(), case)
    if target.exists():
        target.chmod(mode)
    found += others_lost(place, case)
    then_right(place, case, found)


def run_flipped_bits(case, folder):
    """A file in DVC's cache is damaged, and what was made of it is gone from the working tree."""
    place = Place(folder / "place")
    cached = place.cached(case["stage"])
    victim = cached[case["which"] % len(cached)]
    content = bytearray(victim.read_bytes())
    content[int(case["at"] * len(content))] ^= 1 << case["bit"]
    mode = victim.stat().st_mode
    victim.chmod(0o644)
    victim.write_bytes(content)
    victim.chmod(mode)
    for out in place.outs(case["stage"]):
        shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    found = judged(place.run(*COMMANDS[case["command"]]), place.log(), case)
    if case["command"] == "repro":  # DVC looks at no file of its cache; whoever wants to know asks
        code = place.run("python", "-m", "commands", "verify", "--remove", log="verify")
        if code != 0 or (victim.exists() and "damaged" not in place.log("verify") and victim.read_bytes() == content):
            found.append(("accepted wrongly", f"gan verify: {code} {place.log('verify')[-500:]}"))
    then_right(place, case, found)


def run_deleted_data(case, folder):
    """Somebody deletes a folder of data in the middle of a run."""
    place = Place(folder / "place", missing=[case["stage"], "report"], keep_outs=case["outs_there"])
    process = place.start(*COMMANDS[case["command"]])
    time.sleep(case["after_seconds"])
    shutil.rmtree(place.root / case["folder"], ignore_errors=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(400)
    found = judged(process.returncode, place.log(), case) if process.returncode is not None else [("hang", "")]
    then_right(place, case, found)


def run_clock(case, folder):
    """The clock jumps in the middle of a run, by seconds or by years."""
    place = Place(folder / "place", missing=[case["stage"]], keep_outs=case["outs_there"])
    clock = folder / "clock"
    clock.write_text("+0")
    faked = _faked(clock)
    place.environment |= faked
    process = place.start(*COMMANDS[case["command"]])
    time.sleep(case["after_seconds"])
    clock.write_text(f"{case['jump_seconds']:+d}")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(400)
    if process.returncode is None:
        found = [("hang", f"after a jump by {case['jump_seconds']} s")]
    else:
        found = judged(process.returncode, place.log(), case)
        if process.returncode != 0:
            found.append(("refused wrongly", f"the run failed for a clock: {process.returncode}"))
    place.end_all()
    for name in faked:
        place.environment.pop(name)
    then_right(place, case, found)


def _faked(clock):
    """The environment of programs whose clock is off by what the file `clock` says."""
    return {
        "LD_PRELOAD": faketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def run_clock_of_versions(case, folder):
    """The clock jumps between isolated runs: each change is still one version, the newest is last, and then nothing changes."""
    project = make_project(folder, ran=True, api_url=server_url())
    clock = folder / "clock"
    project.environment |= _faked(clock)
    wanted = []
    for number, jump in enumerate(case["jumps_seconds"]):
        clock.write_text(f"{jump:+d}")
        project.set(f"seed: {number}", f"seed: {number + 1}")
        project.commit(f"Seed {number + 1}")
        wanted.insert(0, number + 1)
        _isolated_run(project)
    listed = json.loads(project.gan("versions", "list", "--json").stdout)
    seeds = [int(project.git("show", f"{one['tag']}:params.yaml").partition("seed: ")[2].split()[0]) for one in listed]
    if seeds != wanted:
        raise Fault("differs", f"seeds {seeds}, newest first, expected {wanted}: {[one['tag'] for one in listed]}")
    last = _isolated_run(project)
    if last.strip() != "Cached: nothing changed":
        raise Fault("differs", f"a further run said {last}")


def _isolated_run(project):
    """What a run under a faked clock prints in the end."""
    done = project.pipeline("--isolated", check=False)
    if "[Errno 14] Bad address" in done.stderr:  # of execve; seen under this library alone, once in some hundred starts
        raise NotChecked("libfaketime kept a program from starting")
    if done.returncode != 0:
        raise Fault("refused wrongly", done.stdout[-300:] + done.stderr[-2000:])
    return done.stdout


def run_no_proc(case, folder):
    """There is no /proc."""
    place = Place(folder / "place", missing=[case["stage"]], keep_outs=case["outs_there"])
    command = " ".join(COMMANDS[case["command"]])
    code = place.run("unshare", "--mount", "sh", "-c", f"mount -t tmpfs none /proc && exec {command}")
    then_right(place, case, judged(code, place.log(), case) + others_lost(place, case))


def run_little_memory(case, folder):
    """Too little memory: an allocation fails, or the kernel kills what asks for more."""
    place = Place(folder / "place", missing=[case["stage"]], keep_outs=case["outs_there"])
    limit = int(case["mib"] * MIB)
    if case["how"] == "address space":
        options = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))}
        found = run_and_judge(place, case, **options)
    else:
        with _memory_group(limit) as procs:
            found = run_and_judge(place, case, within=procs)
    then_right(place, case, found)


@contextlib.contextmanager
def _memory_group(limit):
    """A group of processes that have `limit` bytes together: the file that takes a process' number."""
    group = Path("/sys/fs/cgroup/memory") / f"soak-{os.getpid()}-{time.monotonic_ns()}"
    _shell("mkdir $0 && echo $1 > $0/memory.limit_in_bytes", group, limit)
    try:
        yield group / "cgroup.procs"
    finally:
        _shell("for i in $(seq 50); do rmdir $0 2>/dev/null && break; sleep 0.1; done", group)


def _shell(script, *arguments):
    """Run a script with the arguments $0, $1, ... in a process of its own: this one may write into the case's folder alone."""
    subprocess.run(["sh", "-c", script, *map(str, arguments)], check=True)


def run_together(case, folder):
    """Two commands at the same time in one repository."""
    place = Place(folder / "place", missing=[case["stage"], "report"], keep_outs=case["outs_there"])
    first = place.start(*COMMANDS[case["command"]])
    time.sleep(case["after_seconds"])
    second = place.start(*COMMANDS[case["second"]], log="second")
    codes = []
    for process in (first, second):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(500)
        codes.append(process.returncode)
    found = []
    if None in codes:
        found.append(("hang", f"exit codes {codes}"))
    for code, log in zip(codes, ("command", "second"), strict=True):
        command = case["second"] if log == "second" else case["command"]
        found += judged(code, place.log(log), case, command=command) if code is not None else []
    if codes == [1, 1] and "flow" in (case["command"], case["second"]):
        found.append(("refused wrongly", "neither of the two did its work"))
    if found:
        found[0] = (found[0][0], f"{found[0][1]}\n{place.log('second')[-2000:]}")
    then_right(place, case, found)


@functools.cache
def faketime():
    """The path of the library that fakes the clock, or None."""
    found = sorted(Path("/usr/lib").glob(f"*/{_FAKETIME}"))
    return str(found[0]) if found else None


def _warm_up():
    let_signals_through()
    template()
    own_mounts()


def _warm_up_with_server():
    _warm_up()
    templates()
    server_url()


def _kind(name, run, more, share=1.0, warm_up=_warm_up):
    def make(seed):
        dice = random.Random(f"{name} {seed}")
        return common(dice) | more(dice)

    return Kind(
        cases=st.integers(0, 2**40).map(make),
        run=run,
        warm_up=warm_up,
        group="programs with mounts",
        spawns=True,
        share=share,
        seconds=1800,
        warm_up_seconds=900,
        limit_bytes=8_000_000_000,
        smallest=False,
    )


def _after(dice):
    return {"after_seconds": round(dice.uniform(0, 15), 2)}


KINDS, LEFT_OUT = {}, {}
if os.geteuid() == 0:
    KINDS |= {
        "full disk": _kind("full disk", run_full_disk, lambda dice: {"free": round(dice.uniform(0, 1.1), 3)}, share=7),
        "full temporary": _kind(
            "full temporary", run_full_temporary, lambda dice: {"free_bytes": dice.choice([0, 4096, 65536])}, 3
        ),
        "read-only": _kind("read-only", run_read_only, lambda dice: {"folder": dice.choice(FOLDERS)}, 5),
        "no permission": _kind(
            "no permission",
            run_no_permission,
            lambda dice: {"path": dice.choice(FOLDERS + FILES), "mode": dice.choice([0o000, 0o400, 0o500, 0o444])},
            share=5,
        ),
        "no proc": _kind("no proc", run_no_proc, lambda dice: {}, 3),
    }
else:
    _NEED_ROOT = ("full disk", "full temporary", "read-only", "no permission", "no proc")
    LEFT_OUT |= dict.fromkeys(_NEED_ROOT, "only root may mount file systems and drop capabilities")
KINDS |= {
    "flipped bits": _kind(
        "flipped bits",
        run_flipped_bits,
        lambda dice: {"which": dice.randrange(1000), "at": round(dice.random(), 6), "bit": dice.randrange(8)},
        share=5,
    ),
    "deleted data": _kind(
        "deleted data",
        run_deleted_data,
        lambda dice: (
            {"folder": f"data/{dice.choice(['raw', 'normalized', 'judge', 'model', 'evaluation', 'gallery'])}"} | _after(dice)
        ),
        share=3,
    ),
    "little memory": _kind(
        "little memory",
        run_little_memory,
        lambda dice: {
            "how": dice.choice(["address space", "group"] if os.access("/sys/fs/cgroup/memory", os.W_OK) else ["address space"]),
            "mib": round(dice.choice([60, 120, 250, 500, 1000, 2000]) * dice.uniform(0.8, 1.2)),
        },
        share=4,
    ),
    "together": _kind("together", run_together, lambda dice: {"second": dice.choice(["repro", "flow"])} | _after(dice), share=4),
}
if faketime():
    KINDS["clock"] = _kind(
        "clock",
        run_clock,
        lambda dice: {"jump_seconds": dice.choice([-1, 1]) * round(10 ** dice.uniform(0.5, 8))} | _after(dice),
        share=4,
    )
    KINDS["clock of versions"] = _kind(
        "clock of versions",
        run_clock_of_versions,
        lambda dice: {"jumps_seconds": [0, *(dice.choice([-1, 1]) * round(10 ** dice.uniform(0, 8)) for _ in range(2))]},
        share=2,
        warm_up=_warm_up_with_server,
    )
else:
    LEFT_OUT["clock of versions"] = LEFT_OUT["clock"] = "needs libfaketime (Debian's package libfaketime)"
