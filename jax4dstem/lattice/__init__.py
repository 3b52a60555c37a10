"""The lattice of Bragg disks: its model, detection, search and likelihood fit.

Names are loaded when they are first used: modules of this room import each other one by one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
