"""Runtime images: what a sandbox sees as ``/usr/local``, and perhaps as ``/usr``; prepared once, read-only ever after.

``<image_dir>/<name>/local`` is a sandbox's ``/usr/local``; ``root/usr`` and ``root/etc`` are there if the image has a
root of its own, else these are the host's; ``manifest.json`` and ``files.json`` no sandbox sees. The name is the start
of a hash of all files. ``current`` is a link that is switched when a new image is complete.

Whoever only uses an image needs what is named here; building one is in the modules of this package.
"""

from supervisor.image.manifest import GroupRecord, Image, LanguageRecord, Manifest, Selection, current_image
from supervisor.image.steps import ImageError
from supervisor.image.store import hold

__all__ = [
    "GroupRecord",
    "Image",
    "ImageError",
    "LanguageRecord",
    "Manifest",
    "Selection",
    "current_image",
    "hold",
]
