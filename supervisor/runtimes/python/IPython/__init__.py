"""So much of IPython as code written for notebooks asks for; the sandbox shows what ``display`` is given."""

from IPython import display

__version__ = "0.0.0+gaoler"


def get_ipython():
    """There is no shell."""
    return None
