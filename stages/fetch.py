"""Reads the sources in its parameters. Writes data/raw/: the four IDX files of MNIST, decoded.

The sources are tried in order and the first whose files have the sha256 of the parameters wins. The environment variable
MNIST_SOURCE names a folder, zip or tar(.gz) that is tried before them, for a machine without a network.
"""

import logging
import os
from pathlib import Path
from typing import Literal

import truststore
from pydantic import Field, field_validator

from gan.archives import ExpectedFile
from gan.errors import DataError
from gan.files import replacing_folder
from gan.params import Section, read_section
from gan.sources import Local, Network, Source, collect_first
from stages.command import PARAMS, run

RAW = Path("data/raw")
ENVIRONMENT_SOURCE = "MNIST_SOURCE"
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class FetchParams(Section):
    """What the files must be, where they may come from, and how patient a download is."""

    files: dict[Literal[NAMES], ExpectedFile]
    sources: tuple[Source, ...] = Field(min_length=1)
    network: Network

    @field_validator("files")
    @classmethod
    def _require_all_names(cls, files):
        missing = [name for name in NAMES if name not in files]
        if missing:
            raise ValueError(f"expected all four files, without {missing[0]}")
        return files


def main():
    params = read_section(PARAMS, "fetch", FetchParams)
    logging.basicConfig(format="fetch: %(message)s")
    logging.getLogger("gan").setLevel(logging.INFO)
    # requests trusts its own list of certificate authorities; pip and npm work behind a company's, and so must this
    truststore.inject_into_ssl()
    sources = list(params.sources)
    if path := os.environ.get(ENVIRONMENT_SOURCE):
        sources.insert(0, Local(kind="local", path=path))
    with replacing_folder(RAW) as folder:
        if collect_first(sources, params.files, folder, params.network) is None:
            raise DataError(
                f"none of the {len(sources)} sources gave MNIST (reasons above); "
                f"set {ENVIRONMENT_SOURCE} to a folder, zip or tar that holds {', '.join(NAMES)}"
            )


if __name__ == "__main__":
    run(main)
