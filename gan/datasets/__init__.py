"""Getting MNIST: sources, downloads, archives, and the IDX format."""
