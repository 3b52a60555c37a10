"""jax4dstem: from raw 4D-STEM data to domains, strain and error bars, in JAX.

Names are loaded when they are first used, so that importing the package costs nothing. What is public is listed in
``__init__.pyi`` beside this file, once for Python and for type checkers.
"""

import lazy_loader

from jax4dstem import above
from jax4dstem._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
above.name = __getattr__
