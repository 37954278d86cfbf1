"""One module a DVC stage: read parameters and inputs, call the library, write outputs."""

from gan.kernels import pin_numpy

pin_numpy()  # here, since Python runs this before any stage can import NumPy
