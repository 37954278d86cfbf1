"""Writing YAML: what `gan.params.parse_yaml` has read with its comments, or plain dicts and lists."""

import io

from ruamel.yaml import YAML


def to_yaml(content):
    """The YAML text of `content`; its comments and quotes are kept, and no line is broken."""
    yaml, buffer = YAML(), io.StringIO()
    yaml.width = 4096
    yaml.dump(content, buffer)
    return buffer.getvalue()
