"""Holding NumPy to the same kernels on every x86-64 processor with AVX2, so that its results have the same bytes everywhere."""

import os
import platform
import sys

# OpenBLAS picks kernels for its matrix products by the processor, or by this variable; each kind rounds in its own way.
_BLAS_VARIABLE, _BLAS_KERNELS = "OPENBLAS_CORETYPE", "Haswell"
# NumPy's own functions, such as exp and power, round otherwise where they use AVX-512.
_NUMPY_VARIABLE, _NUMPY_WITHOUT = "NPY_DISABLE_CPU_FEATURES", "X86_V4 AVX512_ICL AVX512_SPR"
# After each product OpenBLAS's further threads wait for the next one at work, for 2^26 cycles; for 2^4, they sleep.
_WAIT_VARIABLE, _WAIT_EXPONENT = "OPENBLAS_THREAD_TIMEOUT", "4"


def pin_numpy():
    """Let NumPy use the kernels for Haswell, the first processor with AVX2, whatever the machine or the shell says.

    NumPy and its OpenBLAS pick kernels when they are loaded, so call this before. Raises RuntimeError when it is too late. Other
    processors have no such kernels and are left alone. Everywhere, threads that have nothing to do leave the cores to others.
    """
    os.environ[_WAIT_VARIABLE] = _WAIT_EXPONENT
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return
    if "numpy" in sys.modules and os.environ.get(_BLAS_VARIABLE) != _BLAS_KERNELS:
        raise RuntimeError("NumPy was imported before gan.kernels.pin_numpy() was called: its results may round differently here")
    os.environ[_BLAS_VARIABLE] = _BLAS_KERNELS
    os.environ[_NUMPY_VARIABLE] = _NUMPY_WITHOUT
    for variable in ("OPENBLAS_L2_SIZE", "NPY_ENABLE_CPU_FEATURES"):
        os.environ.pop(variable, None)
