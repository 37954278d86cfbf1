"""Making every machine compute alike: NumPy's kernels, TensorFlow's threads; and starting TensorFlow quietly."""

import contextlib
import gc
import os
import platform
import signal
import sys
import tempfile

_BLAS_VARIABLE, _BLAS_KERNELS = "OPENBLAS_CORETYPE", "Haswell"


def pin_blas():
    """Let NumPy's OpenBLAS use the same kernels on every x86-64 processor: those for Haswell, the first with AVX2.

    Each kind of kernel rounds matrix products in its own way, and OpenBLAS picks one by the processor, or by a variable of the
    shell. It picks when NumPy is loaded, so call this before. Raises RuntimeError when it is too late. Other processors have
    no such kernels and are left alone.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return
    if "numpy" in sys.modules and os.environ.get(_BLAS_VARIABLE) != _BLAS_KERNELS:
        raise RuntimeError("NumPy was imported before gan.runtime.pin_blas() was called: its products may round differently here")
    os.environ[_BLAS_VARIABLE] = _BLAS_KERNELS
    os.environ.pop("OPENBLAS_L2_SIZE", None)


def start_tensorflow(threads, *, threads_an_operation=None):
    """Import TensorFlow and Keras, give them `threads` threads, and return TensorFlow. Call it before anything else imports them.

    An operation uses up to `threads_an_operation` of them, by default all.

    The number is fixed rather than taken from the machine: products may be split by it, a split one may round differently, and a
    run's bytes must not depend on how many cores happen to be there.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _signals_held(), _stderr_kept_on_failure(), _without("matplotlib", "sklearn"), _no_collections():
        import keras
        import tensorflow as tf
        import threadpoolctl

        # ~/.keras/keras.json may say otherwise
        keras.config.set_floatx("float32")
        keras.config.set_image_data_format("channels_last")
        keras.config.set_epsilon(1e-7)
        tf.config.threading.set_intra_op_parallelism_threads(threads_an_operation or threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        threadpoolctl.threadpool_limits(threads)  # NumPy's matrix products, for the same reason
        tf.zeros(1)  # the first operation starts the devices, which prints as well
    return tf


@contextlib.contextmanager
def _signals_held():
    """Let SIGINT and SIGTERM wait until the block is left, a few seconds.

    The exception that Python raises for them, inside a native module's initialiser, comes out as an ImportError: the stop would
    look like a broken installation, or be swallowed where a library does without an optional module.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _without(*modules):
    """Let imports of those `modules` that are not loaded yet fail inside the block.

    Keras loads them wherever they are installed, for wrappers and pictures of its own: half a second to one and a half.
    """
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextlib.contextmanager
def _no_collections():
    """Collect no garbage inside the block, and never look at what was made in it again: that is a third of the imports' time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _stderr_kept_on_failure():
    """Hold back what native code writes to stderr; show it only if the block fails.

    TensorFlow prints notices about oneDNN and absent GPU drivers before its logging is set up, so no setting silences them.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(original, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
