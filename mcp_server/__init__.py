"""The MCP door: tools, resources and results over streamable HTTP and stdio.

``transport`` and ``stdio`` bring messages, ``server`` hands them out, ``tools`` (a module for each kind of thing) does
what they ask, ``results`` and ``resources`` shape what goes back. It knows nothing of sandboxes.
"""
