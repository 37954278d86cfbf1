"""Saving Keras models so that equal models are equal files, and loading them."""

import json
import math
import zipfile

import numpy as np

from gan.arrays import require_stored
from gan.errors import DataError
from gan.files import replacing

_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
_MAX_CONFIG_BYTES = 1_000_000  # ours have 10,000
_MAX_DEPTH = 10  # of groups in each other in HDF5
# Numbers that a layer may give for one image; more only if it has as many bytes of weights, so that a few bytes of configuration
# cannot ask for gigabytes.
_MAX_OUTPUT = 1 << 18


def save_model(model, path):
    """Save architecture and weights in Keras' own format at `path` (ending in .keras), for `keras.models.load_model`.

    Keras writes the time into the archive and its metadata, and memory addresses into the configuration as the numbers of shared
    objects. Constants and a count replace them, so that equal models are equal files.
    """
    with replacing(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            members = {name: archive.read(name) for name in sorted(archive.namelist())}
        metadata = json.loads(members["metadata.json"])
        metadata["date_saved"] = "1980-01-01@00:00:00"
        members["metadata.json"] = json.dumps(metadata).encode()
        numbers = {}
        config = json.loads(members["config.json"], object_hook=lambda value: _number_shared_object(value, numbers))
        members["config.json"] = json.dumps(config).encode()
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content)


def load_model(path):
    """The Keras model saved at `path` (a Path), not compiled; DataError when there is none or it cannot be read.

    No code of the file is run. It is refused, before anything is allocated, if it is not as `save_model` writes it or asks for
    more memory than it has bytes.
    """
    import keras

    if not path.exists():
        raise DataError(f"{path}: no such file; `dvc repro` makes it")
    try:
        _require_honest_model(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except MemoryError:  # of the machine, not of the file
        raise
    except Exception as error:  # a damaged archive shows as any of a dozen classes, from zipfile's to TypeError
        raise DataError(f"{path}: not a readable Keras model: {_first_line(error)}") from None


def load_weights(model, path):
    """Give `model` the weights at `path` (a Path); DataError if they are damaged or another network's."""
    import h5py

    try:
        with h5py.File(path) as file:
            _require_stored(file, path.stat().st_size)
        model.load_weights(path)
    except MemoryError:
        raise
    except Exception as error:  # as for load_model
        raise DataError(f"{path}: not weights of this {model.name}: {_first_line(error)}") from None


def _require_honest_model(path):
    """Raise ValueError unless the archive at `path` holds what its configuration asks for, stored, and nothing besides."""
    import h5py

    file_bytes = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sorted(member.filename for member in members) != sorted(_MEMBERS):
            raise ValueError(f"expected {', '.join(_MEMBERS)}, got {', '.join(member.filename for member in members)}")
        require_stored(archive, file_bytes)
        if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
            raise ValueError(f"its configuration is larger than {_MAX_CONFIG_BYTES} bytes")
        config = archive.read("config.json").decode()
        with archive.open("model.weights.h5") as stream, h5py.File(stream) as file:
            stored_bytes = _require_stored(file, file_bytes)
    weights_bytes, largest_output = _declared_sizes(config)
    if weights_bytes > stored_bytes:
        raise ValueError(f"its configuration asks for weights of {weights_bytes} bytes, it holds {stored_bytes}")
    if largest_output > max(_MAX_OUTPUT, weights_bytes):
        raise ValueError(f"a layer gives {largest_output} numbers for one image")


def _declared_sizes(config):
    """(bytes of all weights, most numbers that a layer gives for one image) of the model that the JSON `config` describes."""
    import keras

    with keras.StatelessScope():  # here weights have shapes, but no memory
        try:
            model = keras.models.model_from_json(config)
            weights_bytes = sum(math.prod(weight.shape) * np.dtype(weight.dtype).itemsize for weight in model.weights)
            return weights_bytes, max(math.prod(tensor.shape[1:]) for tensor in _outputs(model))
        finally:
            keras.utils.clear_session()  # else the end of the scope would give them their memory


def _outputs(model):
    """What each layer of `model` gives, those of models in it included."""
    import keras

    for layer in model.layers if isinstance(model, keras.Sequential) else model.operations:
        yield from keras.tree.flatten(layer.output)
        if isinstance(layer, keras.Model):
            yield from _outputs(layer)


def _require_stored(group, file_bytes, seen=None, depth=0):
    """The bytes of all arrays in an HDF5 `group`; ValueError unless they lie in the file itself, whole and plain."""
    import h5py

    total, seen, address = 0, set() if seen is None else seen, h5py.h5o.get_info(group.id).addr
    if depth > _MAX_DEPTH or address in seen:  # a walk through all ways to it might never end
        raise ValueError("its groups hold each other")
    seen.add(address)
    for name in group:
        node = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
        if isinstance(node, h5py.Group):
            total += _require_stored(node, file_bytes, seen, depth + 1)
        elif isinstance(node, h5py.Dataset) and not node.external and not node.is_virtual and node.dtype.kind in "fiub":
            if node.id.get_storage_size() != node.nbytes:  # compressed, or never written
                raise ValueError(f"{node.name} says that it has {node.nbytes} bytes, it holds {node.id.get_storage_size()}")
            total += node.nbytes
        else:
            raise ValueError(f"{name!r} is no array that lies in the file")
        if total > file_bytes:
            raise ValueError("its arrays are larger than the file")
    return total


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _number_shared_object(value, numbers):
    if "shared_object_id" in value:
        value["shared_object_id"] = numbers.setdefault(value["shared_object_id"], len(numbers))
    return value
