# The public names of the room: `__init__.py` reads them here and loads each when it is used.
from .opening import open_dataset

__all__ = ["open_dataset"]
