"""Runs at the start of every Python in the sandbox (by ``gaoler_start.pth``), so it does next to nothing.

Matplotlib wants a writable configuration directory and spends seconds on its list of fonts if that has none. The
directory is private to each sandbox; the list in it is a link into the read-only image.
"""

import os

FONT_LISTS = "/usr/local/share/gaoler/matplotlib"


def link_font_lists(directory):
    """Make ``directory`` with a link to each list; whatever goes wrong only costs matplotlib its seconds."""
    try:
        os.mkdir(directory)
        for name in os.listdir(FONT_LISTS):
            os.symlink(f"{FONT_LISTS}/{name}", f"{directory}/{name}")
    except OSError:
        pass


if "MPLCONFIGDIR" in os.environ:
    link_font_lists(os.environ["MPLCONFIGDIR"])
