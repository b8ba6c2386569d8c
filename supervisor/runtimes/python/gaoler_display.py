"""What Python shows beside its output: figures, tables, pages, as notebooks do. ``display`` is there without an import.

What is shown is written as a line of JSON with every form of it that is known, by media type, to a file that the jailer
gives if somebody wants it. Nobody wants it where only text is shown: then ``display`` prints.
"""

import base64
import builtins
import json
import os
import sys

MAX_FORM_BYTES = 16 << 20
LONG_TEXT = 500
METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("text/latex", "_repr_latex_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/pdf", "_repr_pdf_"),
    ("application/json", "_repr_json_"),
)
_file = None


def to(fd):
    """Write what is shown from now on to this descriptor, or nowhere."""
    global _file
    if _file is not None:
        os.close(_file)
    _file = fd
    sys.displayhook = sys.__displayhook__ if fd is None else hook


def display(*things, **_options):
    """Show each of these, as notebooks do."""
    for thing in things:
        if not show(thing):
            print(plain(thing))


def hook(value):
    """Show the value of an expression: its text where text is, everything else beside it."""
    if value is None:
        return
    builtins._ = value
    text = plain(value)
    # What is a page or a picture anyway need not be read as a thousand lines of text.
    print(text[:LONG_TEXT] + " ..." if show(value) and len(text) > 2 * LONG_TEXT and not is_table(value) else text)


def is_table(value):
    """The text of a table is what a reader without eyes has of it."""
    return type(value).__module__.startswith("pandas.")


def show(value):
    """Write down all forms but the text; say whether there were any, and somebody wanted them."""
    if _file is None:
        return False
    forms = forms_of(value)
    if not forms:
        return False
    forms["text/plain"] = plain(value)
    write(forms)
    return True


def plain(value):
    """The text of a value."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__}: repr() raised {type(error).__name__}>"


def forms_of(value):
    """Give every rich form of a value, by media type."""
    if isinstance(value, type):
        return {}
    module = type(value).__module__
    if module.startswith("matplotlib.") and hasattr(value, "savefig"):
        return {"image/png": figure(value)}
    if module.startswith("plotly.") and hasattr(value, "to_plotly_json"):
        return plotly(value)
    bundle = call(value, "_repr_mimebundle_")
    if isinstance(bundle, tuple):
        bundle = bundle[0]
    forms = {str(kind): encoded(content) for kind, content in bundle.items()} if isinstance(bundle, dict) else {}
    for kind, name in METHODS:
        if kind not in forms:
            content = call(value, name)
            if isinstance(content, tuple):
                content = content[0]
            if content is not None:
                forms[kind] = encoded(content)
    forms.pop("text/plain", None)
    return {kind: content for kind, content in forms.items() if content and len(content) <= MAX_FORM_BYTES}


def call(value, name):
    """Call a method of this name, if there is one and it can be."""
    try:
        method = getattr(value, name, None)
        return method() if callable(method) else None
    except Exception:
        return None


def encoded(content):
    """Bytes as base64, text as it is, everything else as JSON."""
    if isinstance(content, (bytes, bytearray)):
        return base64.b64encode(content).decode()
    if isinstance(content, str):
        return content
    try:
        return json.dumps(content, default=str)
    except (TypeError, ValueError):
        return ""


def figure(value):
    """A matplotlib figure as PNG; it need not be shown again."""
    import io

    from matplotlib import _pylab_helpers

    data = io.BytesIO()
    value.savefig(data, format="png", bbox_inches="tight")
    for manager in _pylab_helpers.Gcf.get_all_fig_managers():
        if manager.canvas.figure is value:
            _pylab_helpers.Gcf.destroy(manager)
    return base64.b64encode(data.getvalue()).decode()


def plotly(value):
    """A plotly figure as its JSON, and as a page that needs nothing else."""
    return {
        "application/vnd.plotly.v1+json": value.to_json(),
        "text/html": value.to_html(include_plotlyjs=True, full_html=True),
    }


def show_open_figures():
    """Show the figures that were drawn and not shown, as notebooks do at the end of a cell."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    if _file is None or helpers is None:
        return
    for manager in list(helpers.Gcf.get_all_fig_managers()):
        if manager.canvas.figure.get_axes():
            show(manager.canvas.figure)
        helpers.Gcf.destroy(manager)


def write(forms):
    """Append a line."""
    data = memoryview(json.dumps({"data": forms}).encode() + b"\n")
    try:
        while data:
            data = data[os.write(_file, data) :]
    except OSError as error:
        print(f"[gaoler] it could not be shown: {error}", file=sys.stderr)


builtins.display = display
