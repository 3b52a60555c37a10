"""A small file by py4DSTEM, and as JSON what its calibration makes of one vector: run by its own Python.

python tests/peers/py4dstem_writes.py FILE; the one that the tests have is tests/data/py4dstem_0_14_18.emd.
"""

import json
import sys

import numpy as np
import py4DSTEM


def main():
    cube = py4DSTEM.DataCube(np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5))
    calibration = cube.calibration
    calibration.set_Q_pixel_size(0.02)
    calibration.set_Q_pixel_units("A^-1")
    calibration.set_R_pixel_size(2.5)
    calibration.set_R_pixel_units("nm")
    calibration.set_QR_rotation(0.3)
    calibration.set_QR_flip(True)
    calibration.set_ellipse((1.05, 1.0, 0.2))
    calibration.set_origin((np.full((2, 3), 2.0), np.full((2, 3), 1.5)))
    vectors = py4DSTEM.BraggVectors((2, 3), (4, 5), calibration=calibration)
    fields = [("qx", float), ("qy", float), ("intensity", float)]
    for y, x in np.ndindex(2, 3):
        vectors._v_uncal[y, x].add(np.array([(5.0, 3.5, 1.0)], fields))
    cube.attach(vectors)
    vectors.setcal(center=True, ellipse=True, pixel=True, rotate=True)
    seen = vectors.cal[1, 2]
    py4DSTEM.save(sys.argv[1], cube, mode="o")
    told = {"from_center": [3.0, 2.0], "calibrated": [float(seen.qx[0]), float(seen.qy[0])]}
    print("JSON" + json.dumps(told))


main()
