"""Recipes by name, as what differs from the default."""

from typing import Any

# Left out is what most of the time of a run goes into: lattice fits, UMAP, and features of thousands of numbers, whose
# components take longer than all else that is kept here.
QUICK: dict[str, Any] = {
    "strain.enabled": False,
    "latent.enabled": False,
    "embed.umap": False,
    "domains.kinds": ["sums"],
    "features.kind": "sums",
    "cluster.methods": ["kmeans"],
}
QUICK_IN_WORDS = "domains are told by sums over disks alone; strain, UMAP, autoencoders and levels below the first are left out"
