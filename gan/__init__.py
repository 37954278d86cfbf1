"""The library: images, networks, losses, training, quality. It knows no data path and no parameters file."""
