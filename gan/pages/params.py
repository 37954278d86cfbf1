"""The sections `gallery` and `report` of params.yaml."""

from pydantic import Field

from gan.params import Section


class GalleryParams(Section):
    """How the pictures are laid out; no picture's content but final.png's depends on it."""

    columns: int = Field(ge=1, le=100)
    scale: int = Field(ge=1, le=16)
    final_rows: int = Field(ge=1, le=100)
    final_columns: int = Field(ge=1, le=100)
    final_scale: int = Field(ge=1, le=16)
    seed: int = Field(ge=0, le=10**6)
    frame_milliseconds: int = Field(ge=20, le=10_000)
    last_frame_milliseconds: int = Field(ge=20, le=60_000)
    threads: int = Field(ge=1, le=256)


class ReportParams(Section):
    """What the report's page is called, and how much of a long run it embeds."""

    title: str = Field(min_length=1, max_length=200)
    most_snapshots: int = Field(ge=2, le=10_000)
