"""Starting TensorFlow: quietly, and so that every machine computes alike."""

import contextlib
import gc
import os
import platform
import signal
import sys
import tempfile

from gan.errors import UserError

# oneDNN, which computes TensorFlow's products and convolutions, rounds by the instructions that it uses. `train.instructions` caps
# them, so that a processor with more of them gives the same bytes. Each value: oneDNN's name, and the processor's flags it needs.
INSTRUCTIONS = {
    "avx2": ("AVX2", {"avx2", "fma"}),
    "avx512": ("AVX512_CORE", {"avx512f", "avx512bw", "avx512dq", "avx512vl"}),
    "avx512_bf16": ("AVX512_CORE_BF16", {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"}),
}
# XLA: its products come from a library whose sums do not depend on the width of vectors; no functions that round by the processor;
# gradients' products on transposed copies, since the library takes no other.
_XLA_FLAGS = (
    "--xla_cpu_experimental_ynn_fusion_type=dot "
    "--xla_cpu_enable_platform_dependent_math=false "
    "--xla_disable_hlo_passes=transpose-folding"
)


def start_tensorflow(threads, *, instructions="avx2", device="cpu", threads_an_operation=None):
    """Import TensorFlow and Keras, settle all that results depend on, and return TensorFlow. Call it before anything imports them.

    threads: how many; an operation uses up to `threads_an_operation` of them, by default all. The number is fixed rather than
    taken from the machine: products may be split by it, a split one may round differently, and a run's bytes must not depend on
    how many cores happen to be there.
    instructions: a key of INSTRUCTIONS, the most that oneDNN may use. Raises UserError if this processor has fewer.
    device: "cpu", or the name of a GPU; others stay unseen. Raises UserError if it is not there.
    Variables of the shell that would change any of this are overruled.
    """
    _require_instructions(instructions)
    if "tensorflow" in sys.modules and os.environ.get("ONEDNN_MAX_CPU_ISA") != INSTRUCTIONS[instructions][0]:
        raise RuntimeError(f"TensorFlow was loaded before start_tensorflow(instructions={instructions!r}) could hold it to them")
    os.environ |= {
        "ONEDNN_MAX_CPU_ISA": INSTRUCTIONS[instructions][0],
        "XLA_FLAGS": _XLA_FLAGS,
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "KERAS_BACKEND": "tensorflow",
    }
    for variable in (
        "DNNL_MAX_CPU_ISA",
        "ONEDNN_CPU_ISA_HINTS",
        "DNNL_CPU_ISA_HINTS",
        "ONEDNN_DEFAULT_FPMATH_MODE",
        "TF_XLA_FLAGS",
    ):
        os.environ.pop(variable, None)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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
        _choose_device(tf, device)
        threadpoolctl.threadpool_limits(threads)  # NumPy's matrix products, for the same reason
        tf.zeros(1)  # the first operation starts the devices, which prints as well
    return tf


def _require_instructions(instructions):
    """Raise UserError where this processor lacks what `instructions` needs. Where Linux does not say, TensorFlow itself must."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise UserError(
            f"this processor is of the kind {platform.machine()}, and results are the same bytes on x86-64 only: "
            "no instructions of another kind can be declared yet"
        )
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((set(line.split()) for line in file if line.startswith("flags")), None)
    except OSError:
        return
    missing = sorted(INSTRUCTIONS[instructions][1] - flags) if flags else []
    if missing:
        raise UserError(
            f"train.instructions = {instructions!r}: this processor has no {', '.join(missing)}; "
            "set it to avx2, which gives other bytes, or train elsewhere"
            if instructions != "avx2"
            else f"this processor has no {', '.join(missing)}, which the pipeline needs"
        )


def _choose_device(tf, device):
    """Let TensorFlow see the GPU of that name alone, or none."""
    gpus = {
        tf.config.experimental.get_device_details(gpu).get("device_name"): gpu for gpu in tf.config.list_physical_devices("GPU")
    }
    if device != "cpu" and device not in gpus:
        there = ", ".join(["cpu", *map(str, gpus)])
        raise UserError(f"train.device = {device!r}: not on this machine, which has {there}; other devices give other bytes")
    chosen = [] if device == "cpu" else [gpus[device]]
    tf.config.set_visible_devices(chosen, "GPU")
    for gpu in chosen:
        tf.config.experimental.set_memory_growth(gpu, True)


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
