"""The version, in a module that imports nothing: the build and the provenance of results read it here."""

__version__ = "0.2.0.dev0"
