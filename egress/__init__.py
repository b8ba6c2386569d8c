"""The egress proxy: the only way from a sandbox to anywhere, and it leads only where the operator's rules say.

A request's way through the folder: ``names`` and ``targets`` say what is asked for, ``client_hello`` and ``dns_query``
read what is not HTTP, ``allowlist`` decides, ``resolver`` and ``dial`` reach the very address that was checked,
``splice`` carries the bytes. ``grants`` is what each sandbox may do and has done; ``proxy`` is the process, which the
daemon steers over ``control``. Nothing here imports anything of ours.
"""
