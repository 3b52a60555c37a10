"""Recipe (TOML) -> stages -> results file, with provenance and resume.

Names are loaded when they are first used: the command line reads recipes before it loads JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
