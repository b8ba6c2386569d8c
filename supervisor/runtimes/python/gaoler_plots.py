"""Matplotlib backend of the sandbox: Agg, and ``plt.show()`` saves each open figure as ``plot_N.png``.

Copied into the runtime image and named by ``MPLBACKEND``, so it costs nothing until somebody draws. A program that
asks for ``Agg`` by itself gets plain Agg, whose ``show()`` does nothing; LLM-written code then calls ``savefig``.
"""

import os

from matplotlib import _pylab_helpers
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

DIRECTORY = "/mnt/data"


def _free_path():
    number = 1
    while os.path.lexists(os.path.join(DIRECTORY, f"plot_{number}.png")):
        number += 1
    return os.path.join(DIRECTORY, f"plot_{number}.png")


class FigureManager(FigureManagerBase):
    """Saves instead of showing."""

    def show(self):
        """Save this figure under the next free name."""
        self.canvas.figure.savefig(_free_path(), bbox_inches="tight")

    @classmethod
    def pyplot_show(cls, *, block=None):
        """Save every open figure and close it, so that a second show() does not save it again."""
        for manager in list(_pylab_helpers.Gcf.get_all_fig_managers()):
            manager.show()
            _pylab_helpers.Gcf.destroy(manager)


class FigureCanvas(FigureCanvasAgg):
    """Agg with our manager."""

    manager_class = FigureManager
