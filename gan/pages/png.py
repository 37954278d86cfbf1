"""Pictures as PNGs in memory, and these as `data:` URIs, for pages that load nothing."""

import base64
import io

from PIL import Image


def encode(pixels):
    """The PNG of grays uint8 [h, w] or colours uint8 [h, w, 3]: bytes, the same ones for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(content):
    """The `data:` URI of a PNG's bytes."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
