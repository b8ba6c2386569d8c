type Tree = { key: number; left: Tree; right: Tree } | null;

function insert(tree: Tree, key: number): Tree {
  if (tree === null) return { key, left: null, right: null };
  return key < tree.key
    ? { ...tree, left: insert(tree.left, key) }
    : { ...tree, right: insert(tree.right, key) };
}

function inOrder(tree: Tree): number[] {
  return tree === null ? [] : [...inOrder(tree.left), tree.key, ...inOrder(tree.right)];
}

function preOrder(tree: Tree): number[] {
  return tree === null ? [] : [tree.key, ...preOrder(tree.left), ...preOrder(tree.right)];
}

function height(tree: Tree): number {
  return tree === null ? 0 : 1 + Math.max(height(tree.left), height(tree.right));
}

const tree = [50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63].reduce<Tree>(insert, null);
console.log(`in order: ${inOrder(tree).join(" ")}`);
console.log(`pre-order: ${preOrder(tree).join(" ")}`);
console.log(`height: ${height(tree)}`);
