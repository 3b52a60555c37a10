"""What py4DSTEM finds in a file that we have written, as JSON: run by its own Python, which needs nothing of ours.

python tests/peers/py4dstem_reads.py FILE G1X G1Y G2X G2Y, the reference lattice in 1/Å and its axes, x along rows.
"""

import json
import sys
import warnings

import matplotlib
import numpy as np
import py4DSTEM

matplotlib.use("Agg")
warnings.simplefilter("ignore")


def lists(a):
    return np.asarray(a, float).tolist()


def strain_of(vectors, reference, most=12):
    """Strain by its own fit of lattices to the calibrated vectors, relative to a given lattice."""
    g1, g2 = reference
    strain = py4DSTEM.StrainMap(braggvectors=vectors)
    index = np.array([(h, k) for h in range(-2, 3) for k in range(-2, 3)])
    nodes = index @ np.array([g1, g2])
    fields = [("qx", float), ("qy", float), ("g1_ind", int), ("g2_ind", int)]
    directions = np.zeros(len(index), fields)
    directions["qx"], directions["qy"] = nodes.T
    directions["g1_ind"], directions["g2_ind"] = index.T
    strain.braggdirections = py4DSTEM.PointList(data=directions)
    strain.max_peak_spacing = np.linalg.norm(g1) / 3
    strain.g0, strain.g1, strain.g2 = (0.0, 0.0), g1, g2  # which it draws
    strain.fit_basis_vectors()
    strain.get_strain(gvects=(g1, g2))
    return dict(zip(["e_xx", "e_yy", "e_xy", "theta", "mask"], lists(strain.data[:5]), strict=True))


def main():
    path, *numbers = sys.argv[1:]
    cube = py4DSTEM.read(path)
    vectors = cube.tree("braggvectors")
    given = cube.tree("strainmap")
    calibration = cube.calibration
    pixel = calibration.get_Q_pixel_size()  # which its strain map leaves out
    reference = np.array(numbers, float).reshape(2, 2) / pixel
    calstate = dict(vectors.calstate)  # what it has decided to use itself
    told = {
        "version": py4DSTEM.__version__,
        "sums": lists(cube.data.sum(axis=(2, 3))),
        "pixels": lists(cube.data[1, 2, :2, :3]),
        "calstate": calstate,
        "dtype": str(cube.data.dtype),
        "axes": [[float(dim[1] - dim[0]), unit] for dim, unit in zip(cube.dims, cube.dim_units, strict=True)],
        "Q_pixel": [calibration.get_Q_pixel_size(), calibration.get_Q_pixel_units()],
        "R_pixel": [calibration.get_R_pixel_size(), calibration.get_R_pixel_units()],
        "origin": lists(calibration.get_origin()),
        "raw": lists([vectors.raw[1, 2].qx, vectors.raw[1, 2].qy, vectors.raw[1, 2].I]),
        "calibrated": lists([vectors.cal[1, 2].qx, vectors.cal[1, 2].qy]),
        "strain": strain_of(vectors, reference),
        "given": {name: lists(given.get_slice(name).data) for name in given.slicelabels},
    }  # fmt: skip
    print("JSON" + json.dumps(told))


main()
