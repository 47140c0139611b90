"""knowcap: how many bits of knowledge a language model stores."""

__version__ = "0.1.0"
