"""The program `gan`, for people: one module a command. Nothing else imports this package."""

import _signal  # what `signal` is made of, and there at once, where that takes a moment in which a signal may come
import sys

# `gan` or `python -m commands`, until it can say that it was stopped: an end without a word, and not in the middle of an import
if (sys.argv[:1] == ["-m"] or sys.argv[0].endswith("/gan")) and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
