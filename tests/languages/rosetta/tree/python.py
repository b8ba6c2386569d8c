from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Node:
    key: int
    left: Node | None = None
    right: Node | None = None


def insert(node, key):
    if node is None:
        return Node(key)
    if key < node.key:
        node.left = insert(node.left, key)
    else:
        node.right = insert(node.right, key)
    return node


def in_order(node):
    if node is not None:
        yield from in_order(node.left)
        yield node.key
        yield from in_order(node.right)


def pre_order(node):
    if node is not None:
        yield node.key
        yield from pre_order(node.left)
        yield from pre_order(node.right)


def height(node):
    return 0 if node is None else 1 + max(height(node.left), height(node.right))


root = None
for key in (50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63):
    root = insert(root, key)
print("in order:", *in_order(root))
print("pre-order:", *pre_order(root))
print("height:", height(root))
