"""Reads the sources in its parameters. Writes data/raw/: the four IDX files of MNIST, decoded.

The sources are tried in order and the first whose files have the sha256 of the parameters wins. The environment variable
MNIST_SOURCE names a folder, zip or tar(.gz) that is tried before them, for a machine without a network.
"""

import logging
import os
from pathlib import Path

import truststore

from gan.datasets.params import FILE_NAMES, FetchParams, Local
from gan.datasets.sources import collect_first
from gan.errors import DataError, UserError
from gan.files import replacing_folder
from gan.params import PARAMS, read_section
from stages.command import run_as_command

RAW = Path("data/raw")
ENVIRONMENT_SOURCE = "MNIST_SOURCE"


def main():
    params = read_section(PARAMS, "fetch", FetchParams)
    logging.basicConfig(format="fetch: %(message)s")
    logging.getLogger("gan").setLevel(logging.INFO)
    # requests trusts its own list of certificate authorities; pip and npm work behind a company's, and so must this
    truststore.inject_into_ssl()
    sources = list(params.sources)
    if path := os.environ.get(ENVIRONMENT_SOURCE):
        if not path.isprintable():  # bytes that are no UTF-8 among it
            raise UserError(f"{ENVIRONMENT_SOURCE} = {ascii(path)}: expected a path of printable characters")
        sources.insert(0, Local(kind="local", path=path))
    with replacing_folder(RAW) as folder:
        if collect_first(sources, params.files, folder, params.network) is None:
            raise DataError(
                f"none of the {len(sources)} sources gave MNIST (reasons above); "
                f"set {ENVIRONMENT_SOURCE} to a folder, zip or tar that holds {', '.join(FILE_NAMES)}"
            )


if __name__ == "__main__":
    run_as_command(main)
