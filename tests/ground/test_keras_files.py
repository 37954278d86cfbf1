"""Keras models read from files that anybody may have made."""

import io
import shutil
import zipfile

import h5py
import numpy as np
import pytest

from gan.errors import DataError


@pytest.fixture
def keras(tensorflow):
    import keras

    return keras


def saved(model, folder):
    from gan.keras_files import save_model

    save_model(model, folder / "model.keras")
    return folder / "model.keras"


def test_a_sequential_model_is_read(keras, tmp_path):
    from gan.keras_files import load_model

    layers = [keras.Input((4,)), keras.layers.Dense(784, activation="tanh"), keras.layers.Reshape((28, 28, 1))]
    model = keras.Sequential(layers)
    latents = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(load_model(saved(model, tmp_path))(latents), model(latents))


def test_a_layer_that_gives_too_much_is_found_in_a_model_in_the_model(keras, tmp_path):
    from gan.keras_files import load_model

    inner = keras.Input((4,))
    repeated = keras.layers.GlobalAveragePooling1D()(keras.layers.RepeatVector(2_000_000)(inner))
    outer = keras.Input((4,))
    images = keras.layers.Reshape((28, 28, 1))(keras.layers.Dense(784)(keras.Model(inner, repeated)(outer)))
    with pytest.raises(DataError, match="a layer gives 8000000 numbers for one image"):
        load_model(saved(keras.Model(outer, images), tmp_path))


def test_groups_that_can_be_reached_in_many_ways_are_refused_at_once(keras, tmp_path):
    from gan.keras_files import load_model

    path = saved(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    content = io.BytesIO(members["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        group = file.create_group("again")
        for _ in range(30):  # 10^30 ways
            below = group.create_group("0")
            for number in range(1, 10):
                group[str(number)] = below
            group = below
    members["model.weights.h5"] = content.getvalue()
    shutil.move(path, tmp_path / "good.keras")
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    with pytest.raises(DataError, match="its groups hold each other"):
        load_model(path)


def test_a_compressed_model_is_refused(keras, tmp_path):
    from gan.keras_files import load_model

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    with pytest.raises(DataError, match="not a readable Keras model: it is compressed"):
        load_model(tmp_path / "model.keras")


def test_too_little_memory_is_no_damage(keras, tmp_path, monkeypatch):
    from gan.keras_files import load_model, load_weights

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save_weights(tmp_path / "a.weights.h5")

    def lacking(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(keras.models, "load_model", lacking)
    with pytest.raises(MemoryError):
        load_model(saved(model, tmp_path))
    monkeypatch.setattr(h5py, "File", lacking)
    with pytest.raises(MemoryError):
        load_weights(model, tmp_path / "a.weights.h5")
