"""Training a GAN: networks, losses, the compiled engine, the loop and its checkpoints."""
