"""Starting TensorFlow the same way everywhere: quiet, with a fixed number of threads and GPU memory that grows as needed."""

import contextlib
import gc
import os
import signal
import sys
import tempfile


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

        # ~/.keras/keras.json may say otherwise
        keras.config.set_floatx("float32")
        keras.config.set_image_data_format("channels_last")
        keras.config.set_epsilon(1e-7)
        tf.config.threading.set_intra_op_parallelism_threads(threads_an_operation or threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
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
