"""``IPython.display`` for code written for notebooks: the classes that it uses most, and ``display`` itself."""

import json

from gaoler_display import display

__all__ = ["HTML", "JSON", "SVG", "Image", "Latex", "Markdown", "clear_output", "display"]


class _Text:
    def __init__(self, data=None, filename=None, **_options):
        if data is None and filename is not None:
            with open(filename, encoding="utf-8") as file:
                data = file.read()
        self.data = data

    def __repr__(self):
        return f"<IPython.display.{type(self).__name__} object>"


class HTML(_Text):
    """A piece of a page."""

    def _repr_html_(self):
        return self.data


class Markdown(_Text):
    """Markdown."""

    def _repr_markdown_(self):
        return self.data


class Latex(_Text):
    """LaTeX."""

    def _repr_latex_(self):
        return self.data


class SVG(_Text):
    """A drawing."""

    def _repr_svg_(self):
        return self.data


class JSON(_Text):
    """Data."""

    def _repr_json_(self):
        return json.loads(self.data) if isinstance(self.data, str) else self.data


class Image:
    """A picture from bytes or a file."""

    def __init__(self, data=None, filename=None, **_options):
        if isinstance(data, str):
            data, filename = None, data
        if data is None and filename is not None:
            with open(filename, "rb") as file:
                data = file.read()
        self.data = data

    def _repr_mimebundle_(self):
        if self.data is None:
            return {}
        if self.data.startswith(b"\x89PNG"):
            return {"image/png": self.data}
        if self.data.startswith(b"\xff\xd8"):
            return {"image/jpeg": self.data}
        if self.data.startswith(b"GIF8"):
            return {"image/gif": self.data}
        return {}

    def __repr__(self):
        return "<IPython.display.Image object>"


def clear_output(*_arguments, **_options):
    """What was shown stays."""
