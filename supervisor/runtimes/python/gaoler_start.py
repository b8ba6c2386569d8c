"""Runs at the start of every Python in the sandbox (by ``gaoler_start.pth``), so it does next to nothing.

Matplotlib wants a writable configuration directory and spends seconds on its list of fonts if that has none. The
directory is private to each sandbox; the list in it is a link into the read-only image.
"""

import os

SHARED = "/opt/packages"
FONT_LISTS = "/usr/local/share/gaoler/matplotlib"
ADDED = "added-packages"
NO_LINKS = 0x2000  # ST_NOSYMFOLLOW


def link_font_lists(directory):
    """Make ``directory`` with a link to each list; whatever goes wrong only costs matplotlib its seconds."""
    try:
        os.mkdir(directory)
        for name in os.listdir(FONT_LISTS):
            os.symlink(f"{FONT_LISTS}/{name}", f"{directory}/{name}")
    except OSError:
        pass


def see_packages():
    """Look for what the operator has installed for everybody, and pip into the session, also if it does so later."""
    import sys

    below = "lib/python%d.%d/site-packages" % sys.version_info[:2]
    places = []
    base = os.environ.get("PYTHONUSERBASE")
    if base is not None:
        places.append(f"{base}/{below}")
        try:
            # It has to be there before the first import looks: what is not there then is never looked for again.
            os.makedirs(places[0], exist_ok=True)
        except OSError:
            pass  # no workspace here, or a full one
    places.append(f"{SHARED}/.packages/python/{below}")
    # Before the image's packages: who installs another version means that one.
    at = next((i for i, each in enumerate(sys.path) if each.startswith("/usr/local/lib/")), len(sys.path))
    for place in reversed(places):
        if place not in sys.path and (place == places[0] or os.path.isdir(place)):
            sys.path.insert(at, place)
        sys.path_importer_cache.pop(place, None)


def see_added():
    """Look for what the operator has added to the image: after the image's own, with its .pth files.

    It has a place of its own, which is empty where interpreters are made: what runs there has more rights than a sandbox.
    """
    import sys

    place = "/usr/local/lib/python%d.%d/%s" % (*sys.version_info[:2], ADDED)
    if os.path.isdir(place):
        import site

        sys.path_importer_cache.pop(place, None)
        site.addsitedir(place)


def copy_for_environments():
    """Let ``python3 -m venv`` copy the interpreter where links cannot be followed: in the workspace."""
    import sys

    if ("-m", "venv") not in zip(sys.orig_argv, sys.orig_argv[1:]):
        return
    import venv

    set_up = venv.EnvBuilder.setup_python

    def setup_python(self, context):
        if os.statvfs(context.env_dir).f_flag & NO_LINKS:
            self.symlinks = False
        set_up(self, context)

    venv.EnvBuilder.setup_python = setup_python


see_packages()
see_added()
copy_for_environments()
if "MPLCONFIGDIR" in os.environ:
    link_font_lists(os.environ["MPLCONFIGDIR"])
