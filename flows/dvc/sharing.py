"""What the DVC process does so that machines share results: it learns of runs from the locks of versions, and checks its pushes.

Loaded by process.py, as a file, when the first such request comes.
"""

import contextlib
import copy
import hashlib
import json
import os
import subprocess
from pathlib import Path

_LOCK = "dvc.lock"


def remember(repo, commits, note_file):
    """Enter what the versions at `commits`, oldest first, were made of into DVC's run cache; returns how many were news.

    The lock of a version says all that an entry of the run cache says, so entries travel with git's tags. Outputs that git keeps
    come from git into DVC's cache, for a stage is restored only if all its outputs are there.
    note_file: where it is noted which files each commit has led to, so that only news and what is gone are read.
    """
    known = _read_note(note_file)
    news = 0
    for commit in commits:
        if commit not in known or not all(map(os.path.exists, known[commit])):
            known[commit] = _remember_one(repo, commit)
            news += 1
    if news or known.keys() - set(commits):
        _write(Path(note_file), json.dumps({commit: known[commit] for commit in commits}).encode())
    return news


def push(repo, dvc_main, stages):
    """`dvc push`, and then what it leaves out: see that each object is on the remote in full. Returns the exit code.

    A transfer that was cut leaves a part of an object under the object's name, and DVC takes it for the whole ever after.
    stages: names; of these alone, or of all where there is none.
    """
    remote = repo.cloud.get_remote_odb(None, "push")
    objects = {remote.oid_to_path(oid): repo.cache.local.oid_to_path(oid) for oid in _objects(repo, stages)}
    _send_again(remote.fs, objects, missing=False)  # DVC itself stops at a list of files that was cut
    if code := dvc_main(["push", *stages]):
        return code
    _send_again(remote.fs, objects, missing=True)
    if left := _not_whole(remote.fs, objects, missing=True):
        print(f"ERROR: {left[0]} on the remote stays incomplete", flush=True)
    return 1 if left else 0


def _send_again(fs, objects, *, missing):
    """Send what is not whole on the remote."""
    for path in _not_whole(fs, objects, missing=missing):
        print(f"{path} on the remote is not whole: sent again", flush=True)
        _replace(fs, objects[path], path)


def _not_whole(fs, objects, *, missing):
    """Those of the remote's paths in `objects`, path there -> path here, that are of another size there.

    missing: those that are not there count as well.
    """
    found = dict(zip(objects, fs.info(list(objects), return_exceptions=True), strict=True))
    sizes = {path: info["size"] if isinstance(info, dict) else None for path, info in found.items()}
    return [path for path, size in sizes.items() if size != os.path.getsize(objects[path]) and (missing or size is not None)]


def try_remote(repo):
    """Write a file to the default remote, read it and remove it; the remote's address, or None where there is none."""
    name = repo.config["core"].get("remote")
    if name is None:
        return None
    remote = repo.cloud.get_remote_odb(None, "push")
    remote.fs.makedirs(remote.path, exist_ok=True)
    path = remote.fs.join(remote.path, f".try-{os.getpid()}")
    remote.fs.pipe_file(path, b"a try")
    try:
        if remote.fs.cat_file(path) != b"a try":
            raise OSError(f"{path} was not read as it was written")
    finally:
        remote.fs.remove(path)
    return repo.config["remote"][name]["url"]


def _read_note(note_file):
    try:
        note = json.loads(Path(note_file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _remember_one(repo, commit):
    """Enter one version; the paths of all files that this takes."""
    from dvc.utils.serialize import parse_yaml

    files = repo.scm.get_fs(commit)
    if not files.exists(_LOCK):
        return []
    lock = parse_yaml(_from_git(repo, commit, _LOCK).decode(), _LOCK)
    needed = []
    for entry in (lock or {}).get("stages", {}).values():
        if entry.get("cmd") and entry.get("deps") and entry.get("outs"):
            needed.append(_enter(repo, entry))
            needed += [path for out in entry["outs"] if (path := _keep_output(repo, files, commit, out))]
    return needed


def _from_git(repo, commit, path):
    """The content of a file that git has at a commit, bytes.

    DVC's own way, by the BlobIO of pygit2 1.21, waits for ever now and then: it clears the word by which its second thread says
    that it has ended.
    """
    command = ["git", "cat-file", "blob", f"{commit}:{path}"]
    return subprocess.run(command, cwd=repo.root_dir, capture_output=True, check=True).stdout


def _enter(repo, entry):
    """One entry of the run cache; its path."""
    from dvc.stage.cache import _get_cache_hash
    from dvc.utils.serialize import dumps_yaml

    key = _get_cache_hash(copy.deepcopy(entry), key=True)
    path = Path(repo.stage_cache._get_cache_path(key, _get_cache_hash(copy.deepcopy(entry))))
    if not path.exists():
        _write(path, dumps_yaml(entry).encode())
    return str(path)


def _keep_output(repo, files, commit, out):
    """Put an output that git keeps into DVC's cache; its path there, or None where git does not keep it."""
    oid = out.get("md5", "")
    if out.get("hash") != "md5" or oid.endswith(".dir") or not files.exists(out["path"]):
        return None
    path = Path(repo.cache.local.oid_to_path(oid))
    if not path.exists():
        content = _from_git(repo, commit, out["path"])
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != oid:  # somebody's edit after the run
            return None
        _write(path, content)
        path.chmod(0o444)
    return str(path)


def _objects(repo, stages):
    """The ids of all objects that the lock in the working tree names and that are in the cache, those in folders included.

    stages: names; of these alone, or of all where there is none.
    """
    from dvc_data.hashfile.tree import Tree

    found = set()
    for identities in repo.used_objs(stages or None, push=True).values():
        for identity in identities:
            if not os.path.exists(repo.cache.local.oid_to_path(identity.value)):
                continue
            found.add(identity.value)
            if identity.isdir:
                found.update(child.value for _, _, child in Tree.load(repo.cache.local, identity))
    return found


def _replace(fs, source, path):
    from dvc_objects.fs.utils import as_atomic

    with contextlib.suppress(FileNotFoundError):  # SFTP renames onto no file that is there
        fs.remove(path)
    with as_atomic(fs, path, create_parents=True) as temporary:
        fs.put_file(source, temporary)


def _write(path, content):
    """Write a file whole or not at all.

    What a kill leaves of it is no entry of the run cache: DVC takes every file beside an entry for another one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent.parent / f".{path.name}-{os.getpid()}"
    temporary.write_bytes(content)
    os.replace(temporary, path)
