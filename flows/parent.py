"""A run that Prefect has started, as a worker or a schedule does, ends with the process that started it."""

import ctypes
import json
import os
import signal
import sys

_PARENT = "PIPELINE_PARENT"  # the serving process tells its runs its number
_PR_SET_PDEATHSIG = 1


def announce():
    """Tell the runs that Prefect will start as children of this process who their parent is."""
    os.environ[_PARENT] = str(os.getpid())


def started_by_prefect():
    """Whether this process is a run that a worker or a schedule has started."""
    return "PREFECT__FLOW_RUN_ID" in os.environ or _PARENT in os.environ  # a worker says so, Prefect's runner does not


def end_to_tell(api, flow_run):
    """Variables by which a run's DVC process tells Prefect of its end where the run itself cannot, killed with its worker."""
    return {"PIPELINE_RUN": json.dumps({"api": api, "flow_run": str(flow_run), "parent": os.getppid()})}


def end_with_parent():
    """Get SIGTERM when the parent ends, even by SIGKILL: nobody would be left to stop this run. On Linux alone."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.environ.get(_PARENT, str(os.getppid())) != str(os.getppid()):  # it ended before the request took hold
        os.kill(os.getpid(), signal.SIGTERM)
