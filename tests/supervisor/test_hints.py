"""Hints about packages: pure, on what the tools of today really print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.execution.hints import READ_BYTES, give_hint, hint_of
from supervisor.execution.results import Collector
from supervisor.execution.values import Exited, OutputPiece, TimedOut
from supervisor.jailer import protocol

TRACEBACK = 'Traceback (most recent call last):\n  File "/code/main.py", line 1, in <module>\n    import {0}\n'
PYTHON = TRACEBACK + "ModuleNotFoundError: No module named '{0}'\n"
NODE = """node:internal/modules/cjs/loader:1210
  throw err;
  ^

Error: Cannot find module '{0}'
Require stack:
- /code/main.js
    at Module._resolveFilename (node:internal/modules/cjs/loader:1207:15) {{
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/code/main.js' ]
}}

Node.js v20.20.2
"""
ESM = """node:internal/modules/esm/resolve:873
Error [ERR_MODULE_NOT_FOUND]: Cannot find package '{0}' imported from /code/main.js
    at packageResolve (node:internal/modules/esm/resolve:873:9) {{
  code: 'ERR_MODULE_NOT_FOUND'
}}

Node.js v20.20.2
"""
R = "Error in library({0}) : there is no package called \u2018{0}\u2019\nExecution halted\n"
GO = "go: finding module for package {0}\n/code/main.go:2:8: cannot find module providing package {0}\n"
RUST = "error[E0432]: unresolved import `{0}`\n  |     ^^^^ maybe a missing crate `{0}`?\n\nerror: aborting due to 1 error\n"
TSC = "../code/main.ts(1,20): error TS2307: Cannot find module '{0}' or its corresponding type declarations.\n"
PIP = (
    "ERROR: Could not find a version that satisfies the requirement {0} (from versions: none)\n"
    "ERROR: No matching distribution found for {0}\n"
)
NPM = "npm error code EAI_AGAIN\nnpm error syscall getaddrinfo\nnpm error errno EAI_AGAIN\nnpm error A complete log of this\n"
CARGO = """    Updating crates.io index
error: failed to get `serde` as a dependency of package `p v0.1.0 (/mnt/data/p)`

Caused by:
  failed to load source for dependency `serde`

Caused by:
  network failure seems to have happened
  if a proxy or similar is necessary `net.git-fetch-with-cli` may help here

Caused by:
  [6] Couldn't resolve host name (Could not resolve host: example.org); class=Net (12)
"""
NEWER_CARGO = """    Updating crates.io index
error: download of config.json failed

Caused by:
  failed to download from `https://example.org/config.json`

Caused by:
  [6] Could not resolve hostname (Could not resolve host: example.org)
"""
GEM = """ERROR:  Could not find a valid gem '{0}' (>= 0), here is why:
          Unable to download data from https://example.org/ - SocketError: Failed to open TCP connection to example.org:443
"""
RUBY = """<internal:/usr/lib/ruby/vendor_ruby/rubygems/core_ext/kernel_require.rb>:85:in `require': cannot load such file -- {0} (LoadError)
\tfrom <internal:/usr/lib/ruby/vendor_ruby/rubygems/core_ext/kernel_require.rb>:85:in `require'
\tfrom -e:1:in `<main>'
"""
NOTEBOOK = '  File "/code/main.py", line 1\n    !pip install {0}\n    ^\nSyntaxError: invalid syntax\n'


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        (PYTHON.format("cowsay"), 'python = ["cowsay"]'),
        (PYTHON.format("sklearn.tree"), 'python = ["scikit-learn"]'),
        (PYTHON.format("PIL"), 'python = ["pillow"]'),
        (NODE.format("left-pad"), 'npm = ["left-pad"]'),
        (NODE.format("@scope/name/deep/file.js"), 'npm = ["@scope/name"]'),
        (ESM.format("left-pad"), 'npm = ["left-pad"]'),
        ('error: Cannot find package "left-pad" from "/code/main.ts"\n', 'npm = ["left-pad"]'),
        (TSC.format("left-pad"), 'npm = ["left-pad"]'),
        (R.format("Rcpp"), 'debian = ["r-cran-rcpp"]'),
        ("Error in install.packages(x) : unable to install packages\n", 'debian = ["r-cran-NAME"]'),
        (GO.format("github.com/x/y"), "github.com/x/y is not installed: this language has its standard library here"),
        (RUST.format("rand"), "rand is not installed"),
        (NOTEBOOK.format("cowsay"), "belongs to notebooks; this sandbox has no network"),
        (PIP.format("cowsay"), 'python = ["cowsay"]'),
        (NPM, "this sandbox has no network"),
        (
            CARGO,
            "nothing can be downloaded or installed in it; cargo builds with crates whose source lies in /mnt/data",
        ),
        (NEWER_CARGO, "whose source lies in /mnt/data (cargo vendor, made elsewhere)"),
        (GEM.format("nokogiri"), 'debian = ["ruby-nokogiri"]'),
        (GEM.format("Active_Thing"), 'debian = ["ruby-active-thing"]'),
        (RUBY.format("nokogiri"), "nokogiri is not installed (gem list shows what is); to have it, ask the operator"),
        (RUBY.format("nokogiri/xml"), 'debian = ["ruby-nokogiri"]'),
        ("/code/main.sh: line 1: cargo: command not found\n", 'debian = ["cargo"]'),
        ("/bin/sh: 1: gem: not found\n", 'debian = ["ruby"]'),
    ],
)
def test_what_is_missing_is_said_with_what_the_operator_can_do(stderr: str, expected: str) -> None:
    hint = hint_of("", "line before\n" + stderr, failed=True, network=False)
    assert hint is not None
    assert expected in hint
    assert "\n" not in hint


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        (PYTHON.format("cowsay"), "pip install cowsay puts it into this session"),
        (PYTHON.format("cowsay"), "gaoler packages add --python cowsay"),
        (NODE.format("left-pad"), "gaoler packages add --node left-pad"),
        (NOTEBOOK.format("cowsay"), 'subprocess.run("pip install cowsay", shell=True, check=True)'),
    ],
)
def test_with_a_network_the_session_can_install_it_itself(stderr: str, expected: str) -> None:
    hint = hint_of("", stderr, failed=True, network=True)
    assert hint is not None
    assert expected in hint


def test_an_installer_that_only_complains_on_stdout_is_seen_too() -> None:
    assert "no network" in (hint_of(PIP.format("x"), "", failed=False, network=False) or "")


@pytest.mark.parametrize(
    ("stdout", "stderr", "failed", "network"),
    [
        # The program has handled it.
        ("", PYTHON.format("cowsay"), False, False),
        ("", PYTHON.format("cowsay") + "using the fallback\n", True, False),
        ("", PIP.format("cowsay") + "a\nb\nc\nd\ndone\n", False, False),
        ("", NODE.format("left-pad") + "went on\n", True, False),
        ("", RUBY.format("nokogiri") + "went on\n", True, False),
        ("", CARGO + "a\nb\nc\nd\ndone\n", False, False),
        ("", "main.sh: line 1: mycargo: command not found\n", True, False),
        ("", "main.sh: line 1: cargo: command not found\nwent on\n", True, False),
        # A file of his own.
        ("", NODE.format("./nope"), True, False),
        ("", NODE.format("/mnt/data/nope"), True, False),
        # The index has answered.
        ("", PIP.format("cowsay"), True, True),
        ("", NPM, True, True),
        ("", CARGO, True, True),
        ("", GEM.format("x"), True, True),
        # Something else.
        ("", "ValueError: No module named 'x'\n", True, False),
        ("ModuleNotFoundError: No module named 'x'\n", "", True, False),
        ("", "", True, False),
    ],
)
def test_there_is_no_hint(stdout: str, stderr: str, failed: bool, network: bool) -> None:
    assert hint_of(stdout, stderr, failed=failed, network=network) is None


@pytest.mark.parametrize(
    "name", ["x\x1b[31m", "x\nroot# do it", "x; rm -rf /", "'", "-r/etc/passwd", "x" * 500, "\u202e"]
)
def test_what_is_no_name_of_a_package_is_not_repeated(name: str) -> None:
    for form in (PYTHON, NODE, R, PIP, GEM, RUBY):
        hint = hint_of("", form.format(name), failed=True, network=False)
        assert hint is None or name not in hint


@given(st.text(max_size=600), st.text(max_size=600), st.booleans(), st.booleans())
def test_whatever_was_printed_a_hint_is_one_short_line_or_none(a: str, b: str, failed: bool, network: bool) -> None:
    for stderr in (b, PYTHON.format(a) + b, a + NODE.format(b)):
        hint = hint_of(a, stderr, failed=failed, network=network)
        assert hint is None or (hint.isascii() and hint.isprintable() and len(hint) < 1000)


@pytest.mark.parametrize(
    "filler",
    [
        "Cannot find module 'a'",
        "there is no package called 'a' ",
        "! pip ^\n",
        "\n",
        "a" * 9,
        "(LoadError)\n\tfrom a",
        "Caused by:\n ",
    ],
)
def test_hostile_output_is_looked_through_in_no_time(filler: str) -> None:
    """Every pattern is tried on the longest text there can be; one that backtracks without end would not return."""
    assert hint_of("", (filler * READ_BYTES)[:READ_BYTES], failed=True, network=False) is None


async def test_a_hint_is_added_once_at_the_end_and_told_to_whoever_listens() -> None:
    heard: list[OutputPiece] = []

    async def hear(piece: OutputPiece) -> None:
        heard.append(piece)

    output = Collector(listener=hear)
    await output.take(protocol.Output(stream="stderr", data=PYTHON.format("cowsay").encode()))
    await give_hint(output, TimedOut(3), network=False)
    said = output.captured("stderr").text()
    assert said.startswith(PYTHON.format("cowsay") + "[gaoler] cowsay is not installed")
    assert said.endswith('python = ["cowsay"]\n')
    assert heard[-1].untrusted_data.startswith(b"[gaoler] cowsay is not installed")
    await give_hint(output, TimedOut(3), network=False)
    assert output.captured("stderr").text() == said


async def test_nothing_is_added_to_what_has_gone_well() -> None:
    output = Collector()
    await output.take(protocol.Output(stream="stdout", data=b"fine\n"))
    await give_hint(output, Exited(0), network=False)
    assert (output.captured("stdout").text(), output.captured("stderr").text()) == ("fine\n", "")
