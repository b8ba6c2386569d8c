"""Runs in a sandbox: make every picture of the workspace small enough to be shown, in a form that every client takes.

The limits come on standard input. ``NAME`` becomes ``out/NAME.png`` or ``.jpg``; what cannot be read is left out.
"""

import json
import os
import sys

WORKSPACE = "/mnt/data"
STEPS = 6


def opened(path):
    from PIL import Image

    if path.endswith(".svg"):
        import io

        import resvg_py

        with open(path, encoding="utf-8") as file:
            drawn = resvg_py.svg_to_bytes(svg_string=file.read())
        return Image.open(io.BytesIO(bytes(drawn)))
    return Image.open(path)


def shrink(path, target, limits):
    """Scale down until it is small enough; photographs as JPEG, everything else as PNG."""
    from PIL import Image

    image = opened(path)
    photograph = image.format == "JPEG"
    image = image.convert("RGB" if photograph else "RGBA")
    edge = limits["pixels"]
    for _ in range(STEPS):
        image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
        name = target + (".jpg" if photograph else ".png")
        if photograph:
            image.save(name, quality=85)
        else:
            image.save(name, optimize=True)
        if os.path.getsize(name) <= limits["bytes"]:
            return
        edge = max(16, int(max(image.size) * 0.7))
    os.remove(name)


def main():
    limits = json.load(sys.stdin)
    names = [name for name in sorted(os.listdir(WORKSPACE)) if os.path.isfile(os.path.join(WORKSPACE, name))]
    os.makedirs(os.path.join(WORKSPACE, "out"), exist_ok=True)
    for name in names:
        try:
            shrink(os.path.join(WORKSPACE, name), os.path.join(WORKSPACE, "out", name), limits)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)


main()
