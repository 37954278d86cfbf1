"""Saving Keras models so that equal models are equal files, and loading them."""

import json
import zipfile

from gan.errors import DataError
from gan.files import replacing


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
    """The Keras model saved at `path` (a Path), not compiled; DataError when there is none or it cannot be read."""
    import keras

    if not path.exists():
        raise DataError(f"{path}: no such file; `dvc repro` makes it")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged archive shows as any of a dozen classes, from zipfile's to TypeError
        raise DataError(f"{path}: not a readable Keras model: {str(error).strip().splitlines()[0]}") from None


def load_weights(model, path):
    """Give `model` the weights at `path`; DataError if they are damaged or another network's."""
    try:
        model.load_weights(path)
    except Exception as error:  # as for load_model
        raise DataError(f"{path}: not weights of this {model.name}: {str(error).strip().splitlines()[0]}") from None


def _number_shared_object(value, numbers):
    if "shared_object_id" in value:
        value["shared_object_id"] = numbers.setdefault(value["shared_object_id"], len(numbers))
    return value
