"""Models in Keras' format and weights in HDF5: damaged, of another kind, with code in them, and larger than their bytes."""

import base64
import copy
import functools
import io
import json
import marshal
import pickle
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from gan.errors import DataError
from tests.soak.case import AcceptedWrongly, Kind, RefusedWrongly, mostly
from tests.soak.kinds import bytes_edits

CODE = "open('../outside/ran', 'w').write('code ran')"


@functools.cache
def models():
    """name -> the bytes of a small model of ours: a generator, one that takes labels, and a discriminator with convolutions."""
    from gan.keras_files import save_model
    from gan.training.networks import build_discriminator, build_generator

    made = {
        "plain": build_generator(latent_dim=5, units=[8, 8], leaky_slope=0.1, seed=0),
        "conditional": build_generator(latent_dim=5, units=[8, 8], leaky_slope=0.1, seed=0, conditional=True),
        "clusters": build_generator(latent_dim=5, units=[4], leaky_slope=0.1, seed=0, cluster_bounds=[-1.0, 0.0, 1.0]),
        "conv": build_generator(latent_dim=5, units=[4, 4], leaky_slope=0.1, seed=0, network="conv"),
        "discriminator": build_discriminator(units=[4, 4, 8], leaky_slope=0.1, seed=0, network="conv", classes=10),
    }
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, model in made.items():
            save_model(model, Path(folder, "model.keras"))
            found[name] = Path(folder, "model.keras").read_bytes()
            model.save_weights(Path(folder, "model.weights.h5"))
            found[f"{name} weights"] = Path(folder, "model.weights.h5").read_bytes()
        return found


def _lambda_function():
    """A function as Keras writes it: marshalled code."""
    code = compile(CODE, "x", "exec")
    return {
        "class_name": "__lambda__",
        "config": {"code": base64.b64encode(marshal.dumps(code)).decode(), "defaults": None, "closure": None},
    }


HOSTILE_LAYERS = {
    "lambda": lambda: ("keras.layers", "Lambda", {"name": "evil", "function": _lambda_function(), "arguments": {}}),
    "lambda by name": lambda: (
        "keras.layers",
        "Lambda",
        {
            "name": "evil",
            "function": {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
            "arguments": {},
        },
    ),
    "os.system": lambda: ("os", "system", {"command": "touch ../outside/ran"}),
    "builtins.exec": lambda: ("builtins", "exec", {"source": CODE}),
    "subprocess": lambda: ("subprocess", "Popen", {"args": ["touch", "../outside/ran"]}),
    "TFSMLayer": lambda: ("keras.layers", "TFSMLayer", {"name": "evil", "filepath": "../outside"}),
    "TorchModuleWrapper": lambda: (
        "keras.layers",
        "TorchModuleWrapper",
        {"name": "evil", "module": base64.b64encode(pickle.dumps(0)).decode()},
    ),
    "StringLookup": lambda: ("keras.layers", "StringLookup", {"name": "evil", "vocabulary": "/etc/passwd"}),
    "TextVectorization": lambda: ("keras.layers", "TextVectorization", {"name": "evil", "vocabulary": "/etc/passwd"}),
    "get_file": lambda: ("keras.utils", "get_file", {"fname": "x", "origin": "file:///etc/passwd", "cache_dir": "../outside"}),
    "load_model": lambda: ("keras.models", "load_model", {"filepath": "model.keras"}),
    "custom": lambda: ("mine", "MyLayer", {"name": "evil"}),
    "registered": lambda: (None, "mine>MyLayer", {"name": "evil"}),
    "enable_unsafe": lambda: ("keras.config", "enable_unsafe_deserialization", {}),
    "np.load": lambda: ("numpy", "load", {"file": "x", "allow_pickle": True}),
    "up": lambda: ("keras.layers", "UpSampling2D", {"name": "evil", "size": [3000, 3000]}),
    "pad": lambda: ("keras.layers", "ZeroPadding2D", {"name": "evil", "padding": 20_000}),
    "repeat": lambda: ("keras.layers", "RepeatVector", {"name": "evil", "n": 10**9}),
    "one hot": lambda: ("keras.layers", "CategoryEncoding", {"name": "evil", "num_tokens": 10**9, "output_mode": "one_hot"}),
}
NUMBERS = (
    0,
    -1,
    1,
    3,
    10**4,
    10**6,
    10**7,
    10**9,
    2**31,
    10**18,
    10**30,
    1.5,
    float("nan"),
    None,
    "x",
    [],
    {},
    True,
    [10**9],
    "10",
)
edit_config = st.one_of(
    st.fixed_dictionaries({"do": st.just("layer"), "which": st.sampled_from(list(HOSTILE_LAYERS)), "at": st.integers(0, 20)}),
    st.fixed_dictionaries({"do": st.just("number"), "at": st.integers(0, 400), "to": st.sampled_from(NUMBERS)}),
    st.fixed_dictionaries(
        {
            "do": st.just("text"),
            "at": st.integers(0, 400),
            "to": st.sampled_from(
                [
                    "",
                    "relu",
                    "x",
                    "softmax",
                    "os",
                    "Lambda",
                    "../../outside/x",
                    "<b>",
                    "\x1b[2J",
                    "x" * 10_000,
                    "int32",
                    "string",
                    "complex64",
                    "float64",
                    "Dense",
                    "keras.layers",
                ]
            ),
        }
    ),
    st.fixed_dictionaries(
        {"do": st.just("size"), "at": st.integers(0, 20), "to": st.sampled_from([10**4, 10**6, 10**7, 10**8, 10**10])}
    ),
    st.fixed_dictionaries({"do": st.just("delete"), "at": st.integers(0, 600)}),
    st.fixed_dictionaries({"do": st.just("nest"), "depth": st.sampled_from([100, 3000, 100_000])}),
)
H5_TRICKS = (
    "external link",
    "soft link",
    "loop",
    "external storage",
    "huge",
    "huge gzip",
    "object reference",
    "strings",
    "missing",
    "extra",
    "other shape",
    "other type",
    "nan",
    "virtual",
    "attributes",
    "ascii",
)
MEMBER_TRICKS = (
    "../../outside/x",
    "/outside",
    "assets/x",
    "no config",
    "no weights",
    "no metadata",
    "twice",
    "bomb",
    "symlink",
    "config bomb",
    "metadata list",
    "old h5",
    "pickle",
)
model_file = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["plain", "plain", "conditional", "clusters", "conv", "discriminator"]),
        "config": mostly([], st.lists(edit_config, min_size=1, max_size=2)),
        "weights": mostly(None, st.sampled_from(H5_TRICKS)),
        "members": mostly(None, st.sampled_from(MEMBER_TRICKS)),
        "h5 edits": mostly([], bytes_edits.edits),
        "edits": mostly([], bytes_edits.edits),
    }
)


def edited(config, edits):
    """The config after the edits; a place counts the values of a kind in the order of the file."""
    for one in edits:
        places = []

        def walk(node, places=places):
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                places.append((node, key, value))
                if isinstance(value, (dict, list)):
                    walk(value)

        walk(config)
        wanted = {"number": (int, float), "text": (str,)}.get(one["do"])
        fitting = [place for place in places if wanted is None or (type(place[2]) in wanted)]
        if one["do"] == "layer":
            module, name, values = HOSTILE_LAYERS[one["which"]]()
            layers = config["config"]["layers"]
            layer = layers[1 + one["at"] % (len(layers) - 1)]
            values = {**values, "name": layer["name"]} if "name" in values else values
            layer |= {"module": module, "class_name": name, "config": values, "registered_name": None if module else name}
        elif one["do"] == "nest":
            config["config"]["deep"] = one["depth"]  # made of text below: json.dumps could not write it
        elif one["do"] == "size":
            keys = (
                "units",
                "filters",
                "batch_shape",
                "batch_input_shape",
                "target_shape",
                "kernel_size",
                "strides",
                "bin_boundaries",
                "num_tokens",
            )
            sizes = [(node, key) for node, key, _ in places if key in keys]
            node, key = sizes[one["at"] % len(sizes)]
            if isinstance(node[key], list):
                node[key][-1] = one["to"]
            else:
                node[key] = one["to"]
        elif fitting:
            node, key, _ = fitting[one["at"] % len(fitting)]
            if one["do"] == "delete":
                del node[key]
            else:
                node[key] = one["to"]
    return config


def config_text(config):
    """The JSON of a config, with what is nested deeply."""
    depth = config["config"].pop("deep", 0) if isinstance(config.get("config"), dict) else 0
    text = json.dumps(config)
    return (
        text if not depth else text[:-1] + ', "deep": ' + '{"class_name": "Dense", "config": ' * depth + "0" + "}" * depth + "}"
    )


def tricked_h5(content, trick):
    """The bytes of a weights file after one trick."""
    import h5py

    if trick == "ascii":
        return b"hello"
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        found = []
        file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
        first = found[0]
        array = file[first][:]
        if trick not in ("loop", "extra", "attributes"):
            del file[first]
        if trick == "external link":
            file[first] = h5py.ExternalLink("../outside/canary", "/x")
        elif trick == "soft link":
            file[first] = h5py.SoftLink("/nowhere")
        elif trick == "loop":
            file["loop"] = h5py.SoftLink("/loop")
            file["round"] = file["/"]
        elif trick == "external storage":
            file.create_dataset(first, array.shape, array.dtype, external=[("../outside/canary", 0, h5py.h5f.UNLIMITED)])
        elif trick == "huge":
            file.create_dataset(first, (10**5, 10**5), "f4")
        elif trick == "huge gzip":
            file.create_dataset(first, (20_000, 20_000), "f4", chunks=(2000, 2000), compression="gzip", fillvalue=1)
        elif trick == "object reference":
            file.create_dataset(first, array.shape, h5py.ref_dtype)
        elif trick == "strings":
            file.create_dataset(first, array.shape, h5py.string_dtype())
        elif trick == "extra":
            file["extra"] = np.zeros(3)
        elif trick == "other shape":
            file[first] = np.zeros(np.add(array.shape, 1), "f4")
        elif trick == "other type":
            file[first] = array.astype("f8")
        elif trick == "nan":
            file[first] = array * np.nan
        elif trick == "virtual":
            layout = h5py.VirtualLayout(array.shape, array.dtype)
            layout[...] = h5py.VirtualSource("../outside/canary", "x", shape=array.shape)
            file.create_virtual_dataset(first, layout)
        elif trick == "attributes":
            file.attrs["layer_names"] = ["x"] * 100
    return buffer.getvalue()


def model_bytes(case):
    """The .keras file of a case."""
    with zipfile.ZipFile(io.BytesIO(models()[case["model"]])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = edited(json.loads(members["config.json"]), copy.deepcopy(case["config"]))
    members["config.json"] = config_text(config).encode("utf-8", "surrogatepass")
    if case["weights"]:
        members["model.weights.h5"] = tricked_h5(members["model.weights.h5"], case["weights"])
    members["model.weights.h5"] = bytes_edits.apply(members["model.weights.h5"], case["h5 edits"])
    trick = case["members"]
    if trick in ("../../outside/x", "/outside", "assets/x", "symlink"):
        members[trick] = b"x"
    elif trick in ("no config", "no weights", "no metadata"):
        del members[{"no config": "config.json", "no weights": "model.weights.h5", "no metadata": "metadata.json"}[trick]]
    elif trick == "metadata list":
        members["metadata.json"] = b"[]"
    elif trick == "old h5":
        return members["model.weights.h5"]
    elif trick == "pickle":
        from tests.soak.kinds.arrays import Payload

        return pickle.dumps(Payload())
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if trick in ("bomb", "config bomb") else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if trick == "twice":
            with warnings.catch_warnings(action="ignore"):
                archive.writestr("config.json", members["config.json"])
        if trick in ("bomb", "config bomb"):
            with (
                warnings.catch_warnings(action="ignore"),  # that there are two of the name
                archive.open("assets/bomb" if trick == "bomb" else "config.json", "w") as member,
            ):
                for _ in range(64):
                    member.write(b" " * (1 << 24))
    return bytes_edits.apply(buffer.getvalue(), case["edits"])


def run_model(case, folder):
    """`data/model/generator.keras` as gallery, evaluate and `gan draw` take it."""
    from gan.generators import Sampler
    from gan.keras_files import load_model
    from gan.pages.digits import draw_digits
    from gan.pages.pictures import sample

    path = folder / "model.keras"
    path.write_bytes(model_bytes(case))
    right = case == {**case, "config": [], "weights": None, "members": None, "h5 edits": [], "edits": []}
    try:
        model = load_model(path)
        if case["model"] != "discriminator":
            sample(model, rows=2, columns=10, seed=0)
            Sampler(model).draw(count=30, class_shares=np.full(10, 0.1), seed=0)
        if case["model"] == "conditional":
            draw_digits(model, "2026", seed=0)
    except DataError as error:
        if right:
            raise RefusedWrongly(str(error)) from None
        raise
    hostile = {one["which"] for one in case["config"] if one["do"] == "layer"}
    if hostile:
        raise AcceptedWrongly(f"took a model with {sorted(hostile)}")
    if case["weights"] in ("external link", "external storage", "virtual", "huge", "huge gzip", "other shape", "missing") or case[
        "members"
    ] in (
        "../../outside/x",
        "/outside",
        "no config",
        "no weights",
        "old h5",
        "pickle",
        "bomb",
        "config bomb",
    ):
        raise AcceptedWrongly(f"took {case['weights']}, {case['members']}")


weights_file = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["plain", "conv"]),
        "of": st.sampled_from(["plain", "plain", "plain", "conv"]),
        "trick": mostly(None, st.sampled_from(H5_TRICKS)),
        "edits": mostly([], bytes_edits.edits),
    }
)


def run_weights(case, folder):
    """A file of `data/model/trajectory` as evaluate takes it."""
    import keras

    from gan.generators import Sampler
    from gan.keras_files import load_model, load_weights

    (folder / "model.keras").write_bytes(models()[case["model"]])
    path = folder / "generator-000001.weights.h5"
    content = models()[f"{case['of']} weights"]
    path.write_bytes(bytes_edits.apply(tricked_h5(content, case["trick"]) if case["trick"] else content, case["edits"]))
    keras.utils.clear_session()
    model = load_model(folder / "model.keras")
    try:
        load_weights(model, path)
        Sampler(model).draw(count=30, class_shares=np.full(10, 0.1), seed=0)
    except DataError as error:
        if case == {**case, "of": case["model"], "trick": None, "edits": []}:
            raise RefusedWrongly(str(error)) from None
        raise
    if case["model"] != case["of"] or case["trick"] in (
        "external link",
        "external storage",
        "virtual",
        "huge",
        "huge gzip",
        "other shape",
        "missing",
    ):
        raise AcceptedWrongly(f"took {case['of']} with {case['trick']}")


def _warm_up():
    from gan.runtime import start_tensorflow

    start_tensorflow(1)
    import gan.generators
    import gan.pages.digits
    import gan.pages.pictures  # noqa: F401

    models()


KINDS = {
    "models": Kind(model_file, run_model, _warm_up, group="keras", share=3),
    "weights": Kind(weights_file, run_weights, _warm_up, group="keras", share=1),
}
