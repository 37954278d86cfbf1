"""How a run ends that does not end well."""

from flows.deadline import TimeUp
from flows.dvc.reproduce import StageFailed
from gan.errors import is_users

STOPPED_BY_SIGNAL = "stopped by a signal; what was trained is kept and the next run goes on from there"


def why_failed(error):
    """What the exception `error` says, where a user can cause or mend that; any other one is raised."""
    if isinstance(error, StageFailed | TimeUp) or is_users(error):
        return str(error)
    raise error
