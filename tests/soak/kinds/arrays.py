"""Arrays in files: .npy and .npz with wrong shapes and types, lying headers, bombs, and pickles that must not run."""

import functools
import hashlib
import io
import pickle
import struct
import zipfile

import numpy as np
from hypothesis import strategies as st

from gan import arrays
from gan.errors import DataError, UserError
from gan.images import to_unit_range
from gan.training.checkpoints import Scratch
from tests.soak.case import AcceptedWrongly, Kind, RefusedWrongly, mostly
from tests.soak.kinds import bytes_edits
from tests.soak.kinds.archives import deflated_zeros

DTYPES = (
    "<f4",
    "|u1",
    "<f8",
    ">f4",
    "<i8",
    "|O",
    "|V1000000",
    "<M8[s]",
    "|b1",
    "<U5",
    "<c16",
    "<f2",
    "|S0",
    "[('a', '<f4')]",
    "<f16",
)
SHAPES = (
    (),
    (0,),
    (3,),
    (3, 28, 28, 1),
    (2, 28, 28),
    (10,),
    (10**10,),
    (10**6, 10**6),
    (1,) * 40,
    (0, 28, 28, 1),
    (3, 0, 28, 1),
    (64, 64),
    (2**63,),
    (2**40, 2**40),
    (-1,),
    (-1, 28, 28, 1),
)


class Payload:
    """A pickle that leaves a file outside of the case's folder when it is loaded."""

    def __reduce__(self):
        return exec, ("open('../outside/ran', 'w').write('code ran')",)


def npy(one):
    """The bytes of an .npy file as `one` says: an honest one, one whose header lies, one that holds a pickle."""
    buffer = io.BytesIO()
    if one["made"] == "pickle":
        np.save(buffer, np.array([Payload()], dtype=object), allow_pickle=True)
        return buffer.getvalue()
    if one["made"] == "bare pickle":
        return pickle.dumps(Payload())
    if one["made"] == "header":
        dtype = one["dtype"] if one["dtype"].startswith("[") else repr(one["dtype"])
        text = f"{{'descr': {dtype}, 'fortran_order': {one['fortran']}, 'shape': {tuple(one['shape'])}, }}"
        text = {0: text, 1: "(" * 5000 + ")" * 5000, 2: "__import__('os').system('true')", 3: text + " " * 60_000}[one["text"]]
        raw = text.encode() + b"\n"
        length = len(raw).to_bytes(4 if one["version"] > 1 else 2, "little")
        return b"\x93NUMPY" + bytes([one["version"], 0]) + length + raw + bytes(one["bytes"])
    array = np.full(one["shape"], one["fill"], one["dtype"])
    np.save(buffer, array)
    return buffer.getvalue()


def honest(shapes, dtypes, fills=(0, 1, -1, float("nan"), float("inf"), 1e38, 255)):
    """A strategy of honest arrays of some of the given kinds."""
    return st.fixed_dictionaries(
        {
            "made": st.just("honest"),
            "shape": st.sampled_from(shapes).map(list),
            "dtype": st.sampled_from(dtypes),
            "fill": st.sampled_from(fills),
        }
    ).filter(lambda one: one["dtype"][1] == "f" or one["fill"] in (0, 1))


hostile = st.one_of(
    st.just({"made": "pickle"}),
    st.just({"made": "bare pickle"}),
    st.fixed_dictionaries(
        {
            "made": st.just("header"),
            "dtype": st.sampled_from(DTYPES),
            "shape": st.sampled_from(SHAPES).map(list),
            "fortran": st.booleans(),
            "text": st.sampled_from([0] * 6 + [1, 2, 3]),
            "version": st.sampled_from([1, 1, 1, 2, 3, 0, 9]),
            "bytes": st.sampled_from([0, 1, 3 * 784 * 4, 100_000]),
        }
    ),
)
images = st.fixed_dictionaries(
    {
        "file": honest([(3, 28, 28, 1), (3, 28, 28), (0, 28, 28, 1), (28, 28, 1, 3)], ["<f4", "<f8", ">f4"]) | hostile,
        "edits": mostly([], bytes_edits.edits),
        "mmap": st.booleans(),
    }
)


def _refusing(right, read):
    """The result of read(), which may raise DataError unless `right`."""
    try:
        return read()
    except DataError as error:
        if right:
            raise RefusedWrongly(str(error)) from None
        raise


def _right_images(case):
    one = case["file"]
    whole = one["made"] == "honest" and not case["edits"]
    return whole and one["shape"] == [3, 28, 28, 1] and one["dtype"] == "<f4" and abs(one["fill"]) <= 1


def run_images(case, folder):
    """`data/normalized/train_images.npy` as judge and evaluate read it."""
    (folder / "images.npy").write_bytes(bytes_edits.apply(npy(case["file"]), case["edits"]))
    found = _refusing(_right_images(case), lambda: arrays.load_images("images.npy", mmap=case["mmap"]))
    if found.shape[1:] != (28, 28, 1) or found.dtype != np.float32:
        raise AcceptedWrongly(f"{found.dtype} {found.shape}")
    if not (abs(found) <= 1).all():
        raise AcceptedWrongly("images outside of [-1, 1]")


def run_pixels(case, folder):
    """`data/normalized/train_images.npy` as train reads it."""
    (folder / "images.npy").write_bytes(bytes_edits.apply(npy(case["file"]), case["edits"]))
    found = _refusing(_right_images(case), lambda: arrays.load_pixels(folder / "images.npy"))
    if found.shape[1:] != (28, 28, 1) or found.dtype != np.uint8:
        raise AcceptedWrongly(f"{found.dtype} {found.shape}")
    if not case["edits"] and not abs(case["file"].get("fill", 0)) <= 1:
        raise AcceptedWrongly("images outside of [-1, 1]")


labels = st.fixed_dictionaries(
    {"file": honest([(3,), (4,), (3, 1), (0,)], ["|u1", "<i8"]) | hostile, "edits": mostly([], bytes_edits.edits)}
)


def run_labels(case, folder):
    """`data/normalized/train_labels.npy`."""
    (folder / "labels.npy").write_bytes(bytes_edits.apply(npy(case["file"]), case["edits"]))
    one = case["file"]
    right = one["made"] == "honest" and one["shape"] == [3] and one["dtype"] == "|u1" and not case["edits"]
    found = _refusing(right, lambda: arrays.load_labels("labels.npy", count=3))
    if found.shape != (3,) or found.max() > 9:
        raise AcceptedWrongly(f"{found}")


def archive_of(members, *, method=zipfile.ZIP_STORED):
    """The bytes of an .npz of members name -> what `npy` takes, or bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, one in members.items():
            archive.writestr(f"{name}.npy", one if isinstance(one, bytes) else npy(one))
    return buffer.getvalue()


@functools.cache
def _bomb():
    """An .npz of a megabyte or two whose members say that they hold 1.28 GB of zeros, and do."""
    header = io.BytesIO()
    count = 160_000_000
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (count,)})
    start = header.getvalue()
    stream = b"\x00" + struct.pack("<HH", len(start), len(start) ^ 0xFFFF) + start + deflated_zeros(8 * count)
    locals_, centrals = b"", b""
    for name in ("steps.npy", "images.npy", "mean.npy", "history.npy"):
        fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(stream), 8 * count + len(start), len(name), 0)
        centrals += b"PK\x01\x02\x14\x00" + fields + struct.pack("<HHHII", 0, 0, 0, 0, len(locals_)) + name.encode()
        locals_ += b"PK\x03\x04" + fields + name.encode() + stream
    return locals_ + centrals + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 4, 4, len(centrals), len(locals_), 0)


npz_wrap = st.fixed_dictionaries(
    {
        "edits": mostly([], bytes_edits.edits),
        "method": st.sampled_from([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
        "whole": st.sampled_from([None] * 20 + ["bomb", "empty", "text", "npy", "folder", "none"]),
    }
)


def write_npz(path, members, wrap):
    """Write the .npz that a case stands for."""
    if wrap["whole"] == "folder":
        path.mkdir()
    elif wrap["whole"] != "none":
        whole = {
            "bomb": _bomb,
            "empty": bytes,
            "text": lambda: b"hello",
            "npy": lambda: npy({"made": "honest", "shape": [3], "dtype": "<f4", "fill": 0}),
        }
        data = whole[wrap["whole"]]() if wrap["whole"] else archive_of(members, method=wrap["method"])
        path.write_bytes(bytes_edits.apply(data, wrap["edits"]))


# a snapshot has 16 samples of 28 x 28; absurd sizes are honest here: all of these bytes are in the file
SNAPSHOTS = [
    (2, 16, 28, 28, 1),
    (2, 0, 28, 28, 1),
    (1, 16, 28, 28, 1),
    (2, 16, 28, 28),
    (2, 1, 5000, 5000, 1),
    (2, 60_000, 28, 28, 1),
    (2, 1, 1, 10**7, 1),
    (3, 4, 28, 28, 1),
]
GOOD_SNAPSHOTS = {"made": "honest", "shape": [2, 16, 28, 28, 1], "dtype": "|u1", "fill": 1}
snapshots = st.fixed_dictionaries(
    {
        "steps": mostly([0, 50], st.lists(st.integers(-2, 10) | st.integers(-(2**63), 2**63 - 1), max_size=3) | hostile),
        "images": mostly(GOOD_SNAPSHOTS, honest(SNAPSHOTS, ["|u1", "<f4"]) | hostile),
        "wrap": npz_wrap,
        "scale": st.sampled_from([1, 3, 16]),
        "columns": st.sampled_from([1, 4, 100]),
    }
)


def run_snapshots(case, folder):
    """`data/model/snapshots.npz` as gallery reads it, and the pictures that it draws of them."""
    from gan.pages import pictures

    steps = case["steps"] if isinstance(case["steps"], dict) else _saved(np.array(case["steps"], np.int64))
    write_npz(folder / "snapshots.npz", {"steps": steps, "images": case["images"]}, case["wrap"])
    right = (
        case["steps"] == [0, 50]
        and case["images"] == GOOD_SNAPSHOTS
        and case["wrap"] == {"edits": [], "method": 0, "whole": None}
    )
    found, images = _refusing(right, lambda: pictures.read_snapshots(folder / "snapshots.npz"))
    grids = pictures.snapshot_grids(images, columns=case["columns"], scale=case["scale"])
    for step, grid in zip(found, grids, strict=True):
        pictures.write_png(folder / f"img-{step}.png", grid)
    pictures.write_animation(folder / "evolution.png", grids, found, frame_milliseconds=100, last_milliseconds=2000)


def _saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# name -> shape and type of what Reference.save writes, small
REFERENCE = {
    "mean": ((64,), "<f8"),
    "covariance": ((64, 64), "<f8"),
    "class_shares": ((10,), "<f8"),
    "features": ((120, 64), "<f4"),
    "radii": ((120,), "<f4"),
    "neighbours": ((), "<i8"),
    "kernel_mean": ((), "<f8"),
    "copy_thresholds": ((10,), "<f4"),
}
member = (
    honest([(), (0,), (10,), (64,), (64, 64), (120,), (120, 64), (1,), (2, 2)], ["<f8", "<f4", "<i8", "<i4", ">f8", "|u1"])
    | hostile
)
reference = st.fixed_dictionaries(
    {
        "change": st.dictionaries(st.sampled_from([*REFERENCE, "more"]), member, max_size=1),
        "leave out": st.lists(st.sampled_from(list(REFERENCE)), max_size=1),
        "wrap": npz_wrap,
    }
)


def good_reference(name):
    """An honest member of a reference: the features of 120 images, spread over all of the classes."""
    random = np.random.default_rng(0)
    features = random.standard_normal((120, 64)).astype(np.float32)
    return {
        "mean": features.mean(0, dtype=np.float64),
        "covariance": np.cov(features.astype(np.float64), rowvar=False),
        "class_shares": np.full(10, 0.1),
        "features": features,
        "radii": np.full(120, 50, np.float32),
        "neighbours": np.array(5),
        "kernel_mean": np.array(1.0),
        "copy_thresholds": np.full(10, 9, np.float32),
    }[name]


def run_reference(case, folder):
    """`data/judge/reference.npz` as evaluate reads it, and what it measures with it."""
    from gan.judge.metrics import measure
    from gan.judge.neighbours import NearImages
    from gan.judge.reference import Reference

    members = {name: _saved(good_reference(name)) for name in REFERENCE if name not in case["leave out"]}
    write_npz(folder / "reference.npz", members | case["change"], case["wrap"])
    right = not case["change"] and not case["leave out"] and case["wrap"] == {"edits": [], "method": 0, "whole": None}
    found = _refusing(right, lambda: Reference.load(folder / "reference.npz"))
    random = np.random.default_rng(1)
    images = to_unit_range(random.integers(0, 256, (len(found.features), 28, 28, 1), np.uint8))
    judged = {
        "features": random.standard_normal((len(images), 64)).astype(np.float32),
        "probabilities": np.full((len(images), 10), 0.1, np.float32),
    }
    random.choice(10, 5, p=found.class_shares)
    metrics = measure(images, judged, found, NearImages(images))
    if not all(np.isfinite(value) for value in metrics.values()):
        raise AcceptedWrongly(f"metrics that are not finite: {metrics}")


def run_thresholds(case, folder):
    """`data/judge/reference.npz` as the gallery's explorer reads it."""
    from gan.pages.explorer import read_copy_thresholds

    members = {name: _saved(good_reference(name)) for name in REFERENCE if name not in case["leave out"]}
    write_npz(folder / "reference.npz", members | case["change"], case["wrap"])
    right = not case["change"] and not case["leave out"] and case["wrap"] == {"edits": [], "method": 0, "whole": None}
    found = _refusing(right, lambda: read_copy_thresholds(folder / "reference.npz"))
    if found.shape != (10,) or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise AcceptedWrongly(f"{found.dtype} {found}")


checkpoint = st.fixed_dictionaries(
    {
        "change": st.dictionaries(st.sampled_from(["next_step", "seconds", "history", "x"]), member, max_size=1),
        "wrap": npz_wrap,
        "sum": st.sampled_from(["right"] * 3 + ["wrong", "none", "no line"]),
        "older is whole": st.booleans(),
    }
)
STORED = {"next_step": np.array(3), "seconds": np.array(1.5), "history": np.zeros((3, 3), np.float32)}


def run_scratch(case, folder):
    """A checkpoint as the next training finds it: the newest that is whole, or none; an end where it bears the right checksum."""
    path = folder / "key" / "checkpoint-000000002.npz"
    path.parent.mkdir()
    write_npz(path, {name: _saved(array) for name, array in STORED.items()} | case["change"], case["wrap"])
    if path.is_file():
        content = path.read_bytes()
        digest = {"wrong": b"0" * 64, "none": b""}.get(case["sum"], hashlib.sha256(content).hexdigest().encode())
        path.write_bytes(digest + (b"" if case["sum"] == "no line" else b"\n") + content)
    whole = case["sum"] == "right" and not case["change"] and case["wrap"] == {"edits": [], "method": 0, "whole": None}
    logged = []
    with Scratch(folder, "key", log=logged.append) as scratch:
        if case["older is whole"]:
            buffer = io.BytesIO()
            np.savez(buffer, **STORED)
            older = path.with_name("checkpoint-000000001.npz")
            older.write_bytes(hashlib.sha256(buffer.getvalue()).hexdigest().encode() + b"\n" + buffer.getvalue())
        try:
            found = scratch.load()
        except UserError as error:
            if whole or (path.is_file() and case["sum"] != "right"):
                raise RefusedWrongly(str(error)) from None
            raise
    if found is None and (whole or case["older is whole"]):
        raise RefusedWrongly("found no checkpoint")
    if found is not None and any(array.dtype.hasobject for array in found.values()):
        raise AcceptedWrongly("objects")
    if not all(line.isprintable() for line in logged):
        raise AcceptedWrongly(f"logged {logged}")


def _warm_up_keras():
    from gan.runtime import start_tensorflow

    start_tensorflow(1)
    import gan.pages.explorer  # noqa: F401

    _bomb()


def _warm_up():
    import matplotlib.pyplot  # noqa: F401

    import gan.judge.metrics
    import gan.judge.reference
    import gan.pages.pictures  # noqa: F401

    _bomb()


KINDS = {
    "images": Kind(images, run_images, _warm_up, share=1.5),
    "pixels": Kind(images, run_pixels, _warm_up, share=1.5),
    "labels": Kind(labels, run_labels, _warm_up, share=1),
    "snapshots": Kind(snapshots, run_snapshots, _warm_up, share=2),
    "references": Kind(reference, run_reference, _warm_up, share=2),
    "copy thresholds": Kind(reference, run_thresholds, _warm_up_keras, group="keras", share=1),
    "checkpoints": Kind(checkpoint, run_scratch, _warm_up, share=2),
}
