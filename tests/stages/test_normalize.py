import hashlib
import os
import resource
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from gan.errors import DataError, ParamsError
from gan.images import to_uint8
from stages import normalize

TRAIN, TEST = 1203, 7  # no multiples of the block


def write_raw(train=TRAIN, test=TEST):
    """Write four small, valid IDX files to data/raw; returns the pixels of the training images, uint8 [train, 28, 28]."""
    random = np.random.default_rng(5)
    normalize.RAW.mkdir(parents=True)
    for half, count in (("t10k", test), ("train", train)):
        pixels = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = random.integers(0, 10, count, np.uint8)
        (normalize.RAW / f"{half}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 28, 28) + pixels.tobytes())
        (normalize.RAW / f"{half}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())
    return pixels


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"normalize:\n  train_count: {TRAIN}\n  test_count: {TEST}\n")
    return tmp_path


def hashes():
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in normalize.NORMALIZED.iterdir()}


def test_arrays_have_the_promised_form_and_values(here):
    pixels = write_raw()
    normalize.main()
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in normalize.NORMALIZED.iterdir()}
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "train_images": ("float32", (TRAIN, 28, 28, 1)),
        "train_labels": ("uint8", (TRAIN,)),
        "test_images": ("float32", (TEST, 28, 28, 1)),
        "test_labels": ("uint8", (TEST,)),
    }
    assert all(isinstance(array, np.memmap) and array.flags.c_contiguous for array in arrays.values())
    images = arrays["train_images"]
    # every gray value is there: black is -1, white is 1, and 51 = 255 / 5 is a fifth of the way from -1 to 1
    assert images.min() == -1
    assert images.max() == 1
    np.testing.assert_allclose(images[..., 0][pixels == 51], -0.6, atol=1e-7)
    np.testing.assert_array_equal(to_uint8(np.array(images))[..., 0], pixels)
    raw_labels = (normalize.RAW / "train-labels-idx1-ubyte").read_bytes()[8:]
    assert arrays["train_labels"].tobytes() == raw_labels


def test_bytes_are_the_same_every_time(here):
    write_raw()
    normalize.main()
    first = hashes()
    normalize.main()
    assert hashes() == first
    expected = np.load(normalize.NORMALIZED / "train_images.npy")
    np.save("by-numpy.npy", expected)  # the file that numpy itself would write
    assert Path("by-numpy.npy").read_bytes() == (normalize.NORMALIZED / "train_images.npy").read_bytes()


def test_memory_stays_within_a_few_blocks(here):
    write_raw(train=8 * TRAIN)
    Path("params.yaml").write_text(f"normalize: {{train_count: {8 * TRAIN}, test_count: {TEST}}}\n")
    tracemalloc.start()
    try:
        normalize.main()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    float_block_bytes = normalize.BLOCK_IMAGES * 28 * 28 * 4
    assert peak_bytes < 4 * float_block_bytes < 8 * TRAIN * 28 * 28 * 4 / 4


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("train-images-idx3-ubyte", lambda body: b"\1" + body[1:], "magic number"),
        ("train-images-idx3-ubyte", lambda body: body[:-1], "truncated"),
        ("t10k-images-idx3-ubyte", lambda body: body + b"\0", "over-long"),
        ("t10k-images-idx3-ubyte", lambda body: struct.pack(">4I", 0x803, TEST, 14, 56) + body[16:], "expected the shape"),
        ("t10k-labels-idx1-ubyte", lambda body: struct.pack(">2I", 0x801, TEST + 1) + body[8:] + b"\0", "expected the shape"),
        ("t10k-labels-idx1-ubyte", lambda body: body[:-1] + b"\x0a", f"got 10 at index {TEST - 1}"),
    ],
)
def test_a_bad_file_is_refused_and_nothing_is_written(here, name, damage, reason):
    write_raw()
    path = normalize.RAW / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"^data/raw/{name}: .*{reason}"):
        normalize.main()
    assert os.listdir("data") == ["raw"]


def test_earlier_results_outlive_a_failure(here):
    write_raw()
    normalize.main()
    before = hashes()
    os.truncate(normalize.RAW / "t10k-labels-idx1-ubyte", 9)
    with pytest.raises(DataError):
        normalize.main()
    assert hashes() == before
    assert sorted(os.listdir("data")) == ["normalized", "raw"]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "'60000'"])
def test_counts_are_checked(here, value):
    Path("params.yaml").write_text(f"normalize: {{train_count: {value}, test_count: {TEST}}}\n")
    with pytest.raises(ParamsError, match="normalize.train_count"):
        normalize.main()


def test_the_command_ends_in_one_line_and_imports_no_tensorflow(here):
    program = "import sys; import stages.normalize; assert not {'tensorflow', 'matplotlib', 'scipy'} & set(sys.modules)"
    root = Path(normalize.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    result = subprocess.run([sys.executable, "-m", "stages.normalize"], env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "data/raw/train-images-idx3-ubyte is missing; run `dvc repro fetch`" in result.stderr


@pytest.mark.parametrize("limit_bytes", [100, 500_000])
def test_a_file_that_does_not_fit_is_one_line_and_leaves_nothing(here, limit_bytes):
    write_raw()
    done = subprocess.run(
        [sys.executable, "-m", "stages.normalize"],
        env={**os.environ, "PYTHONPATH": str(Path(normalize.__file__).parents[1])},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )
    assert done.returncode == 1
    assert done.stderr == "python -m stages.normalize: [Errno 27] File too large\n"
    assert not normalize.NORMALIZED.exists() and sorted(path.name for path in Path("data").iterdir()) == ["raw"]
