"""What Prefect logs of runs, in lines that say something to whoever reads them."""

import logging

import httpx


def servers_errors_in_one_line():
    """Let no run, however it was started, log a page of traceback where the server refuses or goes away."""
    for logger in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(logger).addFilter(_without_servers_traceback)


def _without_servers_traceback(record):
    if record.exc_info and isinstance(record.exc_info[1], httpx.HTTPError):
        record.exc_info = record.exc_text = None
    return True
