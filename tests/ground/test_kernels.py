"""NumPy's matrix products use the same kernels on every x86-64 processor, whatever the shell says."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="the kernels are those of x86-64")


def kernels():
    return {library["architecture"] for library in threadpoolctl.threadpool_info() if library["internal_api"] == "openblas"}


def test_the_tests_run_with_the_kernels_of_every_machine():
    np.ones((2, 2)) @ np.ones((2, 2))
    assert kernels() == {"Haswell"}


@pytest.mark.parametrize("foreign", ["SkylakeX", "Sandybridge", "Zen"])
def test_kernels_that_the_shell_asks_for_are_not_taken(foreign):
    program = "from gan.kernels import pin_numpy; pin_numpy(); from tests.ground.test_kernels import kernels; print(kernels())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_CORETYPE": foreign, "OPENBLAS_L2_SIZE": "100000"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{'Haswell'}\n"


def test_pinning_too_late_is_an_error():
    done = subprocess.run(
        [sys.executable, "-c", "import numpy; from gan.kernels import pin_numpy; pin_numpy()"],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_CORETYPE": "Sandybridge"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RuntimeError: NumPy was imported before" in done.stderr


def test_threads_without_work_leave_the_cores_to_others():
    program = """if True:
        from gan.kernels import pin_numpy
        pin_numpy()
        import time
        import numpy
        from threadpoolctl import threadpool_limits
        matrix = numpy.ones((1000, 1000), numpy.float32)
        waited = []
        with threadpool_limits(2):
            for _ in range(5):
                matrix @ matrix
                before = time.process_time()
                time.sleep(0.2)
                waited.append(time.process_time() - before)
        print(max(waited))
    """
    fresh = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=fresh, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.01  # seconds of a processor; OpenBLAS by itself takes 0.03 or more
