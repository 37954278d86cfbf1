"""Nothing that was there is lost when a stage fails or is stopped."""

import shutil
from pathlib import Path


class OutputBackup:
    """A stage's outputs as they are before it runs, to be put back when it does not finish: DVC deletes them first."""

    def __init__(self, root, stage):
        self._root = Path(root)
        self._cached = {out.path: self._identity(out.path) for out in stage.outs if out.cached}
        self._uncached = {
            out.path: (self._root / out.path).read_bytes()
            for out in stage.outs
            if not out.cached and (self._root / out.path).is_file()
        }

    def put_back(self, session):
        """Restore what was there and is gone: cached outputs by `dvc checkout`, the small ones that git keeps from memory."""
        for path, content in self._uncached.items():
            (self._root / path).parent.mkdir(parents=True, exist_ok=True)
            (self._root / path).write_bytes(content)
        lost = [path for path, identity in self._cached.items() if identity and self._identity(path) != identity]
        for path in lost:  # what is there now is half an output
            if (self._root / path).is_dir():
                shutil.rmtree(self._root / path)
            else:
                (self._root / path).unlink(missing_ok=True)
        if lost:
            session.dvc("checkout", "--allow-missing", *lost)

    def _identity(self, path):
        try:
            status = (self._root / path).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_ctime_ns
