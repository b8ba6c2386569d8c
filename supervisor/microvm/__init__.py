"""The microVM tier: a kernel of its own for each session, and the same jailer inside it.

``machine`` and ``pool`` belong to the jailer of the host, ``vmm`` and ``krun`` to the helper process that becomes the
virtual machine, ``guest`` and ``carrier`` run inside. What both sides say to each other is in ``protocol``.
"""
