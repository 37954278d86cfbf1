"""The campaign `inputs`: whatever a file, a server or a command line can hold is either right or one clear line."""

from tests.soak.kinds import archives, arrays, command_lines, keras_models, network, pages, parameters

KINDS = {
    **parameters.KINDS,
    **archives.KINDS,
    **arrays.KINDS,
    **network.KINDS,
    **pages.KINDS,
    **keras_models.KINDS,
    **command_lines.KINDS,
}
