"""Damage in DVC's cache. DVC never reads a file there again to see whether it is right, so a flipped bit would travel on."""

import hashlib
import json
import shutil
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gan.errors import UserError

DAMAGED_LOCK = "dvc.lock is damaged, as by a kill while DVC wrote it: `make restore` brings the committed one back"


def says_damaged_lock(text):
    """Whether DVC's words `text` mean that dvc.lock is none."""
    return "dvc.lock'" in text and any(words in text for words in ("is invalid", "corrupted", "validation failed"))


def cache_folder(session, root):
    """The folder of DVC's cache, from the DvcSession `session` in the repository `root`."""
    code, lines = session.dvc("cache", "dir")
    if code != 0 or not lines:
        raise UserError(f"DVC does not say where its cache is: {' '.join(lines) or 'no output'}")
    return Path(root, ".dvc", lines[-1])


def damaged_outputs(root, cache, stages=None):
    """Output of a stage -> the files in the cache that are not what their names say, for outputs that have such.

    An output that DVC has restored by a damaged listing counts as well, with what DVC then recorded of it. root: of the
    repository, whose dvc.lock tells the outputs. stages: names; by default all. Every file is read. Raises UserError where
    dvc.lock is none.
    """
    found = {}
    misled = _misled(Path(cache))
    for name, path, out in _locked_outputs(Path(root, "dvc.lock")):
        wanted = (stages is None or name in stages) and out.get("hash", "md5") == "md5" and "md5" in out
        if wanted and (bad := _damaged(Path(cache), out["md5"]) or misled.get(out["md5"])):
            found[path] = bad
    return found


def _locked_outputs(lock):
    """(stage, path, what else the file at `lock` says) of each output."""
    try:
        stages = YAML(typ="safe").load(lock)["stages"]
        outputs = [(name, out["path"], dict(out)) for name, stage in stages.items() for out in stage.get("outs", [])]
    except (YAMLError, KeyError, TypeError, ValueError, AttributeError):  # cut off in any place
        raise UserError(DAMAGED_LOCK) from None
    if any(value is None for *_, out in outputs for value in out.values()):
        raise UserError(DAMAGED_LOCK)
    return outputs


def remove_damaged(root, damaged):
    """Remove what `damaged_outputs` found, and the outputs that were taken from it: both are nobody's data."""
    for out, files in damaged.items():
        for file in files:
            file.unlink(missing_ok=True)
        path = Path(root, out)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def clear_damage(session, root, stages=None):
    """Remove what is damaged of the outputs of `stages`, by default of all; the paths of these outputs."""
    damaged = damaged_outputs(root, cache_folder(session, root), stages)
    remove_damaged(root, damaged)
    return list(damaged)


def _damaged(cache, name):
    """The damaged files of an object of the cache and of those that it lists; one that is not there is not damaged."""
    file = cache / "files" / "md5" / name[:2] / name[2:]
    if not file.is_file():
        return []
    if _md5(file) != name.removesuffix(".dir"):
        return [file]
    if not name.endswith(".dir"):
        return []
    return sorted({bad for item in json.loads(file.read_bytes()) for bad in _damaged(cache, item["md5"])})


def _misled(cache):
    """The listings that DVC has made of damaged ones -> the files that keep them alive.

    DVC believes a name that a flipped bit has changed. It restores the output by it, and records what came of that as the stage's
    result, under a listing that is in itself right.
    """
    listings = {file.parent.name + file.name: file for file in cache.glob("files/md5/??/*.dir")}
    lost = [file for name, file in listings.items() if _md5(file) != name.removesuffix(".dir")]
    misled = {name: [file, listings[name]] for file in lost if (name := _as_believed(file)) in listings}
    for entry in cache.glob("runs/??/*/*") if misled else ():
        for out in _recorded_outputs(entry):
            if out.get("md5") in misled:
                misled[out["md5"]].append(entry)
    return misled


def _as_believed(listing):
    """The name of the listing that DVC makes of what stands in this file; None where it can make none."""
    try:
        items = sorted(json.loads(listing.read_bytes()), key=lambda item: item["relpath"])
    except (ValueError, TypeError, KeyError):
        return None
    return hashlib.md5(json.dumps(items, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _recorded_outputs(entry):
    """What an entry of DVC's run cache says of each output; of one that cannot be read, nothing."""
    try:
        return [out for out in YAML(typ="safe").load(entry)["outs"] if isinstance(out, dict)]
    except (YAMLError, KeyError, TypeError, ValueError, OSError):
        return []


def _md5(file):
    with open(file, "rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
