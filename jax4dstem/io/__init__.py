"""Files: raw data in, results out.

Names are loaded when they are first used: the command line looks for the file before it loads JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
