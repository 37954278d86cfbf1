"""URLs as they may be shown."""

import re


def without_credentials(text):
    """`text` without the names, passwords and tokens that URLs in it may carry."""
    return re.sub(r"(?<=://)[^/\s]*@", "", re.sub(r"(://[^\s?]*)\?\S*", r"\1", text))
