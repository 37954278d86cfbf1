"""Starting TensorFlow in a test process, once."""

from gan import runtime

THREADS = 1  # several test processes share the cores; what two threads compute is tested in processes of their own


def start():
    """TensorFlow with all that the processor has, since only AVX-512 has products in bfloat16.

    Stages that run in this process ask for AVX2 and are told that it is so: what kernels change is tested in processes of their
    own (tests/ground/test_runtime.py).
    """
    if runtime._started is None:
        runtime.start_tensorflow(THREADS, instructions=runtime.NATIVE)
        runtime._started = ("avx2", runtime.CPU)
    return runtime.start_tensorflow(THREADS)
