# The public names of the room: `__init__.py` reads them here and loads each when it is used.
from .opening import open_dataset
from .results import open_results

__all__ = ["open_dataset", "open_results"]
