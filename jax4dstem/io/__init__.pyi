# The public names of the room: `__init__.py` reads them here and loads each when it is used.
from .opening import open_dataset
from .writing import write_scan

__all__ = ["open_dataset", "write_scan"]
