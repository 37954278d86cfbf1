"""One module a DVC stage: read parameters and inputs, call the library, write outputs."""

import signal
import sys

from gan.kernels import pin_numpy

# `python -m stages.NAME`, until its command listens to signals itself: an end without a word, and not in the middle of an import
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

pin_numpy()  # here, since Python runs this before any stage can import NumPy
