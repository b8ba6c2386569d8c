import std.algorithm : max;
import std.stdio : writefln;

class Node
{
    int key;
    Node left, right;

    this(int key)
    {
        this.key = key;
    }
}

Node insert(Node node, int key)
{
    if (node is null)
        return new Node(key);
    if (key < node.key)
        node.left = insert(node.left, key);
    else
        node.right = insert(node.right, key);
    return node;
}

int[] inOrder(Node node)
{
    return node is null ? [] : inOrder(node.left) ~ node.key ~ inOrder(node.right);
}

int[] preOrder(Node node)
{
    return node is null ? [] : node.key ~ preOrder(node.left) ~ preOrder(node.right);
}

int height(Node node)
{
    return node is null ? 0 : 1 + max(height(node.left), height(node.right));
}

void main()
{
    Node root;
    foreach (key; [50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63])
        root = insert(root, key);
    writefln("in order: %(%d %)", inOrder(root));
    writefln("pre-order: %(%d %)", preOrder(root));
    writefln("height: %d", height(root));
}
