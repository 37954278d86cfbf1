"""What the report's explorer needs: the generator and the judge as numbers for a page, directions, training images, pictures.

Directions are principal ones, as in GANSpace (Härkönen et al. 2020, arXiv 2004.02546): the components of many images, and for
each the latents that go with it by least squares.
"""

import base64
import dataclasses
import zlib

import numpy as np

from gan import generators
from gan.arrays import load_archive
from gan.errors import DataError
from gan.images import CLASSES, HALF_RANGE, IMAGE_SHAPE, tile, to_uint8, to_unit_range
from gan.pages import portable
from gan.pages.latents import latents_of, plane
from gan.products import function_of

PLANE_COLUMNS = 9
DIRECTIONS = 5
_REACH = 4.0  # a direction's slider goes so many standard deviations of a latent to both sides
_GRID_COLUMNS = 7
_TEXT = "2026"  # what a class-conditional generator writes first
_GRAY_STEP = 17  # training images and still pictures keep 16 of 256 grays: half the bytes, and hardly to be seen
_LEVEL_OF_GRAY = np.rint(np.arange(256) / _GRAY_STEP).astype(np.uint8)
_COMPONENT_SAMPLES, _ROUNDING_SAMPLES = 4000, 1000
_SEARCHED_SAMPLES, _CHECKED_SAMPLES, _TRAINING_IMAGES = 1500, 500, 500
_IMAGE_TOLERANCE = 0.9 / HALF_RANGE  # less than one gray level
_OPINION_TOLERANCE, _OPINION_SHARE = 0.03, 0.99  # of a probability, and for how many images: some are between two digits
_SAME_IMAGES = 1e-3  # how far apart images may be in the mean: sums are taken in other orders


@dataclasses.dataclass(frozen=True)
class Explorer:
    """`content` is what the page reads, JSON; `pictures` are gray pixels uint8 [h, w] by name."""

    content: dict
    pictures: dict


def build(generator, judge, training_pixels, copy_thresholds, *, seed):
    """The Explorer of two Keras models. Its content is {"left_out": why} for networks that a page cannot compute.

    `training_pixels` are uint8 [n, 28, 28, 1]. `copy_thresholds`, float [10], are the squared distances over pixels in [-1, 1]
    below which an image that the judge takes for this digit counts as a copy.
    """
    try:
        return _build(generator, judge, training_pixels, copy_thresholds, seed)
    except portable.NotPortable as error:
        return Explorer({"left_out": str(error)}, {})


def read_copy_thresholds(path):
    """The `copy_thresholds` float32 [10] in the judge's reference at `path`. Raises DataError."""
    arrays = load_archive(path, "reference")
    if "copy_thresholds" not in arrays:
        raise DataError(f"{path}: not a readable reference: it has no copy_thresholds")
    thresholds = arrays["copy_thresholds"]
    if thresholds.dtype != np.float32 or thresholds.shape != (CLASSES,) or not np.isfinite(thresholds).all():
        raise DataError(f"{path}: expected copy_thresholds float32 [10], got {thresholds.dtype} {list(thresholds.shape)}")
    return thresholds


def _build(generator, judge, training_pixels, copy_thresholds, seed):
    inputs = generators.inputs_of(generator)
    if tuple(generator.output.shape[1:]) != IMAGE_SHAPE:
        raise portable.NotPortable("its images are not 28 x 28")
    network = portable.describe(generator.output)
    if inputs.conditional != (network.one_hot is not None and network.one_hot["of"] == "labels"):
        raise portable.NotPortable("its labels do not stand beside its latents")
    random = np.random.default_rng(seed)

    def draw(count):
        latents = random.standard_normal((count, inputs.latent_dim), np.float32)
        return latents, random.integers(0, CLASSES, count).astype(np.int32)

    latents, labels = draw(_ROUNDING_SAMPLES)
    images = _images(network, latents, labels)
    from_keras = function_of(generator)(inputs.arrange(latents, labels)).numpy()
    if not np.abs(images - from_keras).mean() <= _SAME_IMAGES:  # also true of NaN
        raise portable.NotPortable("a page computes other images than Keras does")
    rounded, packed = portable.quantize(network, portable.inputs_of(network, latents, labels), tolerance=_IMAGE_TOLERANCE)
    opinion = portable.describe(judge.output["probabilities"])
    looked_at = np.concatenate([images, to_unit_range(training_pixels[: len(images)])])
    _, packed_judge = portable.quantize(opinion, looked_at, tolerance=_OPINION_TOLERANCE, share=_OPINION_SHARE)
    directions, shares = _directions(rounded, *draw(_COMPONENT_SAMPLES))
    training, share = _training_images(training_pixels, _images(rounded, *draw(_SEARCHED_SAMPLES + _CHECKED_SAMPLES)))

    sections = _Sections()
    sections.add("directions", directions.astype("<f4"))
    sections.add("training", (training[:, ::2] << 4 | training[:, 1::2]).astype(np.uint8))
    content = {
        "seed": seed,
        "latent_dim": inputs.latent_dim,
        "one_hot": network.one_hot,
        "text": _TEXT if inputs.conditional else "",
        "generator": sections.add_network("generator", network, packed),
        "judge": sections.add_network("judge", opinion, packed_judge),
        "plane_columns": PLANE_COLUMNS,
        "directions": {
            "reach": _REACH,
            "samples": _COMPONENT_SAMPLES,
            "shares_percent": [round(100 * float(value), 1) for value in shares],
        },
        "training": {
            "count": len(training),
            "of": len(training_pixels),
            "gray_step": _GRAY_STEP,
            "found_percent": round(100 * share),
            "copy_thresholds": [round(float(value), 4) for value in copy_thresholds],
        },
    }
    corners = latents_of(seed, 3 * inputs.latent_dim).reshape(3, -1)
    first = np.array([int(_TEXT[0])], np.int32)
    pictures = {"plane": _picture(rounded, plane(corners, PLANE_COLUMNS), first, columns=PLANE_COLUMNS)}
    digits = np.array([int(character) for character in _TEXT[:3]], np.int32)
    for index, direction in enumerate(directions):
        moved = np.linspace(-_REACH, _REACH, _GRID_COLUMNS, dtype=np.float32)[:, None] * direction
        rows = (corners[:, None] + moved).reshape(-1, inputs.latent_dim)
        pictures[f"direction-{index + 1}"] = _picture(rounded, rows, digits.repeat(_GRID_COLUMNS), columns=_GRID_COLUMNS)
    return Explorer({**content, **sections.packed()}, pictures)


def _images(network, latents, labels):
    """Images float32 [n, 28, 28, 1] of a Network; one label may stand for all."""
    labels = np.broadcast_to(labels, len(latents))
    return portable.compute(network, portable.inputs_of(network, latents, labels)).reshape(-1, *IMAGE_SHAPE)


def _picture(network, latents, labels, *, columns):
    grays = _LEVEL_OF_GRAY[to_uint8(_images(network, latents, labels))] * _GRAY_STEP
    return tile(grays, columns=columns)


def _directions(network, latents, labels):
    """Unit vectors of latent space float32 [DIRECTIONS, latent_dim], and each component's share of the images' variance.

    Where digits can be asked for, their means are taken out first: a direction is to change the writing, not the digit.
    """
    images = _images(network, latents, labels).reshape(len(latents), -1).astype(np.float64)
    classes = labels if network.one_hot and network.one_hot["of"] == "labels" else np.zeros_like(labels)
    for label in np.unique(classes):
        images[classes == label] -= images[classes == label].mean(axis=0)
    variances, components = np.linalg.eigh(images.T @ images)
    count = min(DIRECTIONS, latents.shape[1])
    components = components[:, ::-1][:, :count].T  # the largest first
    components *= np.sign(components[np.arange(count), np.abs(components).argmax(axis=1)])[:, None]
    directions = (images @ components.T).T @ latents.astype(np.float64)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    return directions.astype(np.float32), variances[::-1][:count] / max(variances.sum(), 1e-12)


def _training_images(training_pixels, images):
    """The training images that most of `images` come nearest to, closest first among equals: uint8 [k, 784] in 0..15.

    Also the share of the last _CHECKED_SAMPLES images, which had no part in the choice, whose nearest one is among them.
    """
    training = _LEVEL_OF_GRAY[training_pixels.reshape(len(training_pixels), -1)]
    nearest, squares = _nearest(_LEVEL_OF_GRAY[to_uint8(images).reshape(len(images), -1)], training)
    searched, squares = nearest[:_SEARCHED_SAMPLES], squares[:_SEARCHED_SAMPLES]
    found, counts = np.unique(searched, return_counts=True)
    closest = np.array([squares[searched == one].min() for one in found])
    chosen = np.sort(found[np.lexsort((closest, -counts))][:_TRAINING_IMAGES])
    return training[chosen], float(np.isin(nearest[_SEARCHED_SAMPLES:], chosen).mean())


def _nearest(images, training):
    """The place in `training` uint8 [m, d] of the nearest to each of `images` uint8 [n, d], int [n], and its squared distance.

    Both are in 0..15. Sums of such products are whole and below 2^24, so float32 is exact and no machine finds another one.
    """
    flat = images.astype(np.float32)
    factors = -2 * flat  # the block's share of the squared distance is one product and one sum
    best, nearest = np.full(len(flat), np.inf, np.float32), np.zeros(len(flat), int)
    for start in range(0, len(training), 5000):
        block = training[start : start + 5000].astype(np.float32)
        distances = factors @ block.T
        distances += np.einsum("ij,ij->i", block, block)
        place = distances.argmin(axis=1)
        distance = distances[np.arange(len(flat)), place]
        closer = distance < best
        best[closer], nearest[closer] = distance[closer], start + place[closer]
    return nearest, best + np.einsum("ij,ij->i", flat, flat)


class _Sections:
    """Arrays one behind the other, to be compressed as one."""

    def __init__(self):
        self._places, self._bytes = {}, b""

    def add(self, name, array):
        content = array.tobytes()
        self._places[name] = [len(self._bytes), len(content)]
        self._bytes += content

    def add_network(self, name, network, packed):
        """Add a network's weights and return its layers. Signs go to the lowest bit; low and high bytes stand apart."""
        whole = np.concatenate([matrix.ravel() for matrix, _ in packed]).astype(np.int32)
        codes = np.where(whole >= 0, 2 * whole, -2 * whole - 1)
        self.add(f"{name}_low", (codes & 255).astype(np.uint8))
        self.add(f"{name}_high", (codes >> 8).astype(np.uint8))
        self.add(f"{name}_steps", np.concatenate([steps for _, steps in packed]).astype("<f4"))
        return network.layers

    def packed(self):
        """What the page needs to find them: places [start, length in bytes], and all of them as base64 of zlib's format."""
        return {"sections": self._places, "bytes": base64.b64encode(zlib.compress(self._bytes, 9)).decode()}
