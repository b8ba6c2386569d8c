class Node {
  constructor(key) {
    this.key = key;
    this.left = null;
    this.right = null;
  }
}

function insert(node, key) {
  if (node === null) return new Node(key);
  if (key < node.key) node.left = insert(node.left, key);
  else node.right = insert(node.right, key);
  return node;
}

function* inOrder(node) {
  if (node === null) return;
  yield* inOrder(node.left);
  yield node.key;
  yield* inOrder(node.right);
}

function* preOrder(node) {
  if (node === null) return;
  yield node.key;
  yield* preOrder(node.left);
  yield* preOrder(node.right);
}

const height = (node) => (node === null ? 0 : 1 + Math.max(height(node.left), height(node.right)));

const root = [50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63].reduce(insert, null);
console.log("in order:", ...inOrder(root));
console.log("pre-order:", ...preOrder(root));
console.log("height:", height(root));
