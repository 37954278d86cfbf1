"""One module a DVC stage: read parameters and inputs, call the library, write outputs."""

import _signal  # what `signal` is made of, and there at once, where that takes a moment in which a signal may come
import sys

# `python -m stages.NAME`, until its command listens to signals itself: an end without a word, and not in the middle of an import
if sys.argv[:1] == ["-m"] and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from gan.kernels import pin_numpy  # noqa: E402 (after it, for the same reason)

pin_numpy()  # here, since Python runs this before any stage can import NumPy
