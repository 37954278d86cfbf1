"""Room on the disk, looked at before it is used up: a full disk costs the work of hours."""

import shutil

from gan.errors import UserError

_GIGABYTE = 1e9


class NoRoom(UserError):
    """Less is free on the disk than the parameters ask for; the message says what was not started."""


def free_gigabytes(folder):
    """What this user may still write where `folder` is."""
    return shutil.disk_usage(folder).free / _GIGABYTE


def lack_of_room(folder, settings):
    """One line where less is free than the FlowParams `settings` ask for, else None."""
    free = free_gigabytes(folder)
    if free >= settings.free_gigabytes:
        return None
    return f"{free:.2f} GB free on the disk, flow.free_gigabytes asks for {settings.free_gigabytes:g}; gan maintain makes room"
