"""The lattice of Bragg disks: its model, detection, search and likelihood fit."""
