"""Write cv_bridge_golden.npz: small images of every colour encoding, and what the real cv_bridge makes of them.

Run with a Python that has cv_bridge (Debian and Ubuntu: `apt install python3-cv-bridge`, then /usr/bin/python3):

    /usr/bin/python3 test/data/make_cv_bridge_golden.py OUT.npz

Rows are not padded: this cv_bridge ignores `step`.
"""

import sys

import numpy as np
from cv_bridge import CvBridge, CvBridgeError
from sensor_msgs.msg import Image

HEIGHT, WIDTH = 8, 12
PIXEL_BYTES = {
    "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "rgb16": 6, "bgr16": 6, "rgba16": 8, "bgra16": 8,
    "mono16": 2, "yuv422": 2, "yuv422_yuy2": 2,
} | {f"bayer_{order}{bits}": bits // 8 for order in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)}  # fmt: skip


def main(path):
    random = np.random.default_rng(20)
    bridge, out = CvBridge(), {}
    for encoding, pixel_bytes in PIXEL_BYTES.items():
        for is_bigendian in (0, 1) if "16" in encoding else (0,):
            raw = random.integers(0, 256, (HEIGHT, WIDTH * pixel_bytes), dtype=np.uint8)
            message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=raw.shape[1], is_bigendian=is_bigendian)
            message.data = raw.tobytes()
            try:
                rgb = bridge.imgmsg_to_cv2(message, "rgb8")
            except CvBridgeError as error:
                print(f"left out: {encoding}: {error}")
                continue
            out[f"{encoding}/{is_bigendian}/raw"] = raw
            out[f"{encoding}/{is_bigendian}/rgb"] = np.asarray(rgb)
    np.savez_compressed(path, **out)
    print(f"{len(out) // 2} images")


if __name__ == "__main__":
    main(sys.argv[1])
