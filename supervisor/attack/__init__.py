"""``gaoler attack``: every promise of SECURITY.md, tried against a running daemon by somebody who wants to break it.

A *case* is one attack (:mod:`supervisor.attack.case`): a hostile program in a sandbox (``claims.toml`` and
``programs/``), or what a hostile client, neighbour or crash does from outside (``cases/``). ``suite.py`` runs them,
``report.py`` and ``page.py`` say what came of it.
"""
