"""One module a DVC stage: read parameters and inputs, call the library, write outputs."""

from gan.runtime import pin_blas

pin_blas()  # here, since Python runs this before any stage can import NumPy
