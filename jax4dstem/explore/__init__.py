"""The explorer: a map of the scan beside the pattern at the pointer, in a browser, a notebook or one offline file.

One page (`page/explorer.js`, `page/explorer.css`) with three hosts: a loopback server, a notebook's widget, and a file that holds
everything it shows. It draws only: what it shows are fields of results, patterns, and pattern functions lifted over the scan.
"""

from jax4dstem.explore.notebook import explore
from jax4dstem.explore.offline import write_page
from jax4dstem.explore.server import ExplorerServer
from jax4dstem.explore.subject import Subject

__all__ = ["ExplorerServer", "Subject", "explore", "write_page"]
