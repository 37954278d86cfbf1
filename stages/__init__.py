"""One module a DVC stage: read parameters and inputs, call the library, write outputs."""
