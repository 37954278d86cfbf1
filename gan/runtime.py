"""Starting TensorFlow: quietly, and so that every machine computes alike."""

import contextlib
import gc
import hashlib
import importlib.metadata
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path

from gan.errors import UserError

CPU = "cpu"
ANY = "any"  # processor: a result that is the same on every x86-64 one with AVX2
NATIVE = (
    "native"  # whatever the processor has, for machines that have none of INSTRUCTIONS; the bytes are those of its kind alone
)
# A name of parameters -> the flags of /proc/cpuinfo that it needs, and what oneDNN and XLA call it.
INSTRUCTIONS = {
    "avx2": ({"avx2", "fma"}, "AVX2", "AVX2"),
    "avx512": ({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}, "AVX512_CORE", "AVX512"),
    "avx512_bf16": ({"avx512_bf16"}, "AVX512_CORE_BF16", "AVX512_BF16"),
    "amx_bf16": ({"avx512_bf16", "amx_tile", "amx_bf16"}, "AVX512_CORE_AMX", "AMX"),
}
# Variables of a shell that choose kernels; those that only say how much is logged are kept.
_TENSORFLOW_PREFIXES = ("TF_", "TENSORFLOW_", "XLA_", "ONEDNN_", "DNNL_")
_LOGGING_PREFIX = "TF_CPP_"
_XLA_FLAGS = (
    # Eigen cuts products by the sizes of the processor's caches; this library promises one rounding for all processors, ...
    "--xla_cpu_experimental_ynn_fusion_type=dot",
    # ... given this flag, and takes the products that are left as they are written (`gan.products.product`)
    "--xla_cpu_enable_platform_dependent_math=false",
    "--xla_disable_hlo_passes=transpose-folding",
    # where AVX2 is the newest that there is, LLVM cuts a sum into two or into four by the processor's model
    "--xla_backend_extra_options=-force-vector-interleave=4",
)

_started = None


def start_tensorflow(threads, *, instructions="avx2", device=CPU, threads_an_operation=None):
    """Import TensorFlow and Keras, settle what their results could depend on, and return TensorFlow.

    Call it before anything else imports them.

    threads: how many there are; an operation uses up to `threads_an_operation` of them, by default all. The number is fixed
    rather than taken from the machine, since products may be split by it. instructions: the newest that kernels use, a key of
    INSTRUCTIONS, or NATIVE. device: CPU, or the name of a GPU as TensorFlow has it; all others are hidden.

    Variables of the shell that choose kernels are overwritten. If GAN_PROGRAMS names a folder, what XLA compiles is kept there
    for the next process, which starts in half the time; TensorFlow believes what it reads there, so nothing else may write to it.

    Raises UserError if this machine has no such instructions or device, RuntimeError if TensorFlow is there already with other
    settings.
    """
    global _started
    settings = (instructions, device)
    if "tensorflow" in sys.modules and _started != settings:
        raise RuntimeError(f"TensorFlow was imported before start_tensorflow(instructions={instructions!r}, device={device!r})")
    require_instructions(instructions)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if _started is None:
        _choose_kernels(instructions, device)
        if device == CPU and (folder := os.environ.get("GAN_PROGRAMS")):
            _keep_programs(Path(folder), threads_an_operation or threads)
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
        if _started is None:
            _show_device(tf, device)
        threadpoolctl.threadpool_limits(threads)  # NumPy's matrix products, for the same reason
        tf.zeros(1)  # the first operation starts the devices, which prints as well
    _started = settings
    return tf


def scratch_folder(root=Path()):
    """Where the checkout at `root` keeps unfinished work: in its .scratch, or in what GAN_SCRATCH names, seen from there."""
    return root / (os.environ.get("GAN_SCRATCH") or ".scratch")


def require_instructions(name):
    """Raise UserError unless this machine's processor has the instructions `name`, a key of INSTRUCTIONS or NATIVE."""
    if name == NATIVE:
        return
    flags = _processor_flags() if _is_x86() else set()
    if _is_x86() and not flags:  # a system that does not list them; the kernels themselves will tell
        return
    lacking = INSTRUCTIONS[name][0] - flags
    if lacking:
        what = f"has no {', '.join(sorted(lacking))}" if _is_x86() else f"is {platform.machine()}"
        usable = [other for other, (needed, *_) in INSTRUCTIONS.items() if needed <= flags]
        raise UserError(
            f"instructions = {name!r}: this processor {what}; set train.instructions to {' or '.join([*usable, NATIVE])} "
            "(other bytes), or work on another machine"
        )


def processor_kind():
    """What kernels may heed of this machine's processor, beyond its instructions: maker, family and model, such as "AMD 25-17".

    Processors of one kind have the same caches for each core, by whose sizes products and convolutions are cut. Where the system
    does not tell, the kind is the machine's architecture alone.
    """
    fields = _processor_fields()
    vendor = fields.get("vendor_id", "")
    for numbers, maker in (
        (("cpu family", "model"), {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}.get(vendor, vendor)),
        (("CPU implementer", "CPU part"), platform.machine()),  # arm64
    ):
        if all(name in fields for name in numbers):
            return f"{maker} {'-'.join(fields[name] for name in numbers)}".strip()
    return platform.machine()


def require_processor(kind):
    """Raise UserError unless `kind` is ANY or this machine's."""
    here = processor_kind()
    if kind not in (ANY, here):
        raise UserError(
            f"processor = {kind!r}: this machine's is {here!r}, which rounds in its own way; work on one of that kind, or set "
            f"train.processor to {here!r} (other bytes)"
        )


def _choose_kernels(instructions, device):
    for name in [name for name in os.environ if name.startswith(_TENSORFLOW_PREFIXES)]:
        if not name.startswith(_LOGGING_PREFIX):
            del os.environ[name]
    if not _is_x86():
        return
    # without a word TensorFlow uses oneDNN on some processors and not on others
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    flags = list(_XLA_FLAGS) if device == CPU else []
    if instructions != NATIVE:
        _, os.environ["ONEDNN_MAX_CPU_ISA"], xla_name = INSTRUCTIONS[instructions]
        flags.append(f"--xla_cpu_max_isa={xla_name}")
    os.environ["XLA_FLAGS"] = " ".join(flags)


def _keep_programs(folder, threads):
    """Let TensorFlow keep compiled programs in a folder below `folder` for each of what it does not look at itself.

    A program's name there tells what is computed, and not by which instructions, flags and threads.
    """
    chosen = [os.environ.get(name, "") for name in ("XLA_FLAGS", "ONEDNN_MAX_CPU_ISA")]
    machine = [processor_kind(), *sorted(_processor_flags())]
    what = "\n".join([importlib.metadata.version("tensorflow"), str(threads), *chosen, *machine])
    folder = folder.absolute() / hashlib.sha256(what.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={folder}"


def _show_device(tf, device):
    gpus = tf.config.list_physical_devices("GPU")
    chosen = []
    if device != CPU:
        names = {gpu: tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus}
        chosen = [gpu for gpu, name in names.items() if name == device][:1]
        if not chosen:
            there = ", ".join([CPU, *dict.fromkeys(names.values())])
            raise UserError(
                f"train.device = {device!r}: this machine has {there}; set train.device to one of these (other bytes)"
            )
    tf.config.set_visible_devices(chosen, "GPU")
    for gpu in chosen:
        tf.config.experimental.set_memory_growth(gpu, True)


def _is_x86():
    return platform.machine().lower() in ("x86_64", "amd64")


def _processor_flags():
    """The flags of the first processor; none where the system does not list them."""
    return set(_processor_fields().get("flags", "").split())


def _processor_fields():
    """What /proc/cpuinfo says of the first processor, name -> text; empty where there is no such file."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


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
