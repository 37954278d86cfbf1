"""Reading .npy and .npz files that may be missing, damaged, hostile or not what they should be.

NumPy's own readers allocate what a header asks for and unpack what an archive says: a few bytes can fill the memory. Here a
header must fit the bytes that are there before anything is allocated. Pickles and compressed members are refused: `numpy.save`
and `numpy.savez` write neither.
"""

import contextlib
import io
import math
import os
import zipfile

import numpy as np

from gan.errors import DataError
from gan.files import replacing
from gan.images import CLASSES, IMAGE_SHAPE, to_uint8

_BLOCK_IMAGES = 2000


def save_archive(path, **arrays):
    """Write the named arrays to the .npz file at `path`, whole or not at all; equal arrays give equal bytes.

    `numpy.savez` asks for zip64 headers, which Python 3.11.4 and later write in another way than those before.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), content.getvalue())


def load_images(path, *, mmap=False):
    """The images float32 [n, 28, 28, 1] in [-1, 1] in the .npy file at `path`, mapped, not read, if `mmap`. Raises DataError."""
    with _opened(path) as file:
        shape = _read_images_header(file, path)
        if mmap:
            images = np.memmap(file, np.float32, mode="r", offset=file.tell(), shape=shape)
        else:
            images = _read_elements(file, shape, np.dtype(np.float32), "C")
    for start in range(0, len(images), _BLOCK_IMAGES):
        _require_unit_range(images[start : start + _BLOCK_IMAGES], path)
    return images


def load_pixels(path):
    """The images in the .npy file at `path`, which `load_images` reads as floats, as uint8 [n, 28, 28, 1]. Raises DataError.

    Read piece by piece: bytes take a quarter of the floats' memory, and pages of a mapped file would count as ours.
    """
    with _opened(path) as file:
        pixels = np.empty(_read_images_header(file, path), np.uint8)
        for start in range(0, len(pixels), _BLOCK_IMAGES):
            piece = pixels[start : start + _BLOCK_IMAGES]
            images = np.fromfile(file, np.float32, piece.size).reshape(piece.shape)
            _require_unit_range(images, path)
            piece[:] = to_uint8(images)
    return pixels


def load_labels(path, *, count):
    """The labels uint8 [count] in 0..9 in the .npy file at `path`. Raises DataError."""
    with _opened(path) as file:
        shape, order, dtype = _read_header(file, os.fstat(file.fileno()).st_size)
        labels = _read_elements(file, shape, dtype, order)
    if labels.dtype != np.uint8 or labels.shape != (count,) or labels.max() >= CLASSES:
        raise DataError(f"{path}: expected {count} labels uint8 in 0..9, one an image, got {labels.dtype} {list(labels.shape)}")
    return labels


def read_archive(file):
    """The arrays of the .npz `file`, opened for reading bytes: name -> ndarray, in the order of writing.

    Raises ValueError for whatever `numpy.savez` does not write: pickles, compressed members, headers that do not fit the bytes.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            require_stored(archive, file_bytes)
            arrays = {}
            for member in archive.infolist():
                with archive.open(member) as stream:
                    shape, order, dtype = _read_header(stream, member.file_size)
                    arrays[member.filename.removesuffix(".npy")] = _read_elements(stream, shape, dtype, order)
    except MemoryError:  # of the machine, since a member is no larger than the file
        raise
    except Exception as error:  # a damaged archive shows as any of a dozen classes, from zipfile's to NotImplementedError
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    return arrays


def load_archive(path, kind):
    """What `read_archive` gives for the .npz file at `path`. Raises DataError, which calls the file a `kind`."""
    try:
        with open(path, "rb") as file:
            return read_archive(file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable {kind}: {error}") from None


def require_stored(archive, file_bytes):
    """Raise ValueError unless the ZipFile `archive`, a file of `file_bytes`, has its members as they are: stored and whole.

    All of them together then take no more memory than the file has bytes, and what is read of each was in it.
    """
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed")
    # the second where several are the same place of the file
    if any(member.compress_size != member.file_size for member in members) or sum(m.file_size for m in members) > file_bytes:
        raise ValueError("its members say that they are larger than the file holds")


@contextlib.contextmanager
def _opened(path):
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable array: {error}; `dvc repro --force normalize` makes it anew") from None


def _read_header(file, file_bytes):
    """(shape, order "C" or "F", dtype) of the .npy `file`, which has `file_bytes` in all; ValueError if it is none or lies."""
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception:  # NumPy reads a header as Python, so that a wrong one shows as anything from TokenError to RecursionError
        raise ValueError("not an .npy file of version 1.0") from None
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never read")
    expected_bytes = file.tell() + dtype.itemsize * math.prod(shape)
    if min(shape, default=0) < 0 or len(shape) > 32 or expected_bytes != file_bytes:
        raise ValueError(f"its header asks for {expected_bytes} bytes in all, it has {file_bytes}")
    return shape, "F" if fortran_order else "C", dtype


def _read_images_header(file, path):
    shape, order, dtype = _read_header(file, os.fstat(file.fileno()).st_size)
    if order != "C" or dtype != np.float32 or shape[1:] != IMAGE_SHAPE or shape[0] == 0:
        raise DataError(f"{path}: expected images float32 [n, 28, 28, 1], got {dtype} {list(shape)}")
    return shape


def _read_elements(file, shape, dtype, order):
    content = bytearray(dtype.itemsize * math.prod(shape))
    view = memoryview(content)
    while view and (count := file.readinto(view)):
        view = view[count:]
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _require_unit_range(images, path):
    if not (np.abs(images) <= 1).all():
        raise DataError(f"{path}: expected images in [-1, 1], got NaN or numbers beyond; run `dvc repro --force normalize`")
